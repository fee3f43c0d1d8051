"""Normalization.

Follows coremltools' MIL definitions ``iOS15/normalization.py`` and ``iOS17/normalization.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from export.mil.registry import Ints, Tensor, operation


@operation("batch_norm")
def _batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    channels = _channels(x)
    scale = torch.rsqrt(variance + epsilon)
    if gamma is not None:
        scale = scale * gamma
    return _scale_shift(x - mean.reshape(channels), scale, beta, channels)


@operation("instance_norm")
def _instance_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    return _scale_shift(_standardize(x, range(2, x.dim()), epsilon), gamma, beta, _channels(x))


@operation("layer_norm")
def _layer_norm(
    x: Tensor,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    rank = x.dim()
    dims = sorted({axis % rank for axis in axes} if axes is not None else range(rank))
    if dims == list(range(rank - len(dims), rank)):
        return F.layer_norm(x, [x.shape[dim] for dim in dims], gamma, beta, epsilon)
    shape = [x.shape[dim] if dim in dims else 1 for dim in range(rank)]
    return _scale_shift(_standardize(x, dims, epsilon), gamma, beta, shape)


@operation("l2_norm")
def _l2_norm(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Over the last three dimensions; those before them are the batch."""
    squares = x.square().sum(dim=(-3, -2, -1), keepdim=True)
    return x / torch.sqrt(squares + epsilon)


_WITHOUT_BATCH = 3


@operation("local_response_norm")
def _local_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Sums over neighbours along the third dimension from the end. MIL calls the second one
    channels; for three dimensions Apple's own test, exact to 1e-4, expects the first."""
    if x.dim() == _WITHOUT_BATCH:
        return F.local_response_norm(x[None], size, alpha, beta, k)[0]
    return F.local_response_norm(x, size, alpha, beta, k)


def _channels(x: Tensor) -> list[int]:
    return [-1, *[1] * (x.dim() - 2)]


def _standardize(x: Tensor, dims: Sequence[int], epsilon: float) -> Tensor:
    variance, mean = torch.var_mean(x, dim=tuple(dims), correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + epsilon)


def _scale_shift(
    x: Tensor, scale: Tensor | None, shift: Tensor | None, shape: Sequence[int]
) -> Tensor:
    if scale is not None:
        x = x * scale.reshape(shape)
    return x if shift is None else x + shift.reshape(shape)
