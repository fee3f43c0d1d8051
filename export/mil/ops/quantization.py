"""Quantization of activations.

Follows coremltools' MIL definition ``iOS17/quantization_ops.py``.
"""

from __future__ import annotations

import torch

from dfnet.errors import UnsupportedError
from export.mil.dtypes import dtype_named
from export.mil.registry import Tensor, one_of, operation


@operation("quantize")
def _quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """``round(input / scale) + zero_point``, clamped; halves to even."""
    target = dtype_named(one_of("output_dtype", output_dtype, ("int8", "uint8")))
    # A true division, as MIL says. torch multiplies by the reciprocal of the scale instead, so
    # codes at ties may differ by one from torch's fake quantization.
    codes = torch.round(input / along_axis(scale, input.dim(), axis))
    if zero_point is not None:
        codes = codes + along_axis(zero_point, input.dim(), axis)
    limits = torch.iinfo(target.carrier)
    return codes.clamp(limits.min, limits.max).to(target.carrier)


@operation("dequantize")
def _dequantize(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    return affine(input, scale, zero_point, axis)


def affine(codes: Tensor, scale: Tensor, zero_point: Tensor | None, axis: int | None) -> Tensor:
    """``scale * (codes - zero_point)``, in the type of ``scale``."""
    values = codes.to(scale.dtype)
    if zero_point is not None:
        values = values - along_axis(zero_point, codes.dim(), axis).to(scale.dtype)
    return values * along_axis(scale, codes.dim(), axis)


def along_axis(parameter: Tensor, rank: int, axis: int | None) -> Tensor:
    """A scalar as it is, a vector shaped to broadcast along ``axis`` of a tensor of ``rank``.

    Raises:
        UnsupportedError: a vector without an axis, or neither scalar nor vector.
    """
    if parameter.dim() == 0:
        return parameter
    if parameter.dim() > 1 or axis is None:
        raise UnsupportedError(
            f"got a scale or zero point of shape {tuple(parameter.shape)} and axis {axis}, needed "
            "a number, or a vector and its axis"
        )
    shape = [1] * rank
    shape[axis] = -1
    return parameter.reshape(shape)
