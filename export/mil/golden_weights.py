"""Goldens that pin how compressed weights are unpacked.

Each is a 1x1 convolution of one-hot pixels, so that the output is the weights themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from export.mil.golden import Array, Golden, Inputs, Numbers, eighths, program

OUT, IN = 6, 8
_SHAPE = (OUT, IN, 1, 1)


def _one_hot() -> Inputs:
    return {"x": np.eye(IN, dtype=np.float32).reshape(1, IN, 1, IN)}


def _seen(mb: Any, x: Any, weight: Any) -> Sequence[Any]:
    """[1, OUT, 1, IN]: weight[o, i] at [0, o, 0, i]."""
    return (mb.conv(x=x, weight=weight, pad_type="valid", name="y"),)


def codes(seed: int, low: int, high: int, *shape: int) -> Array:
    """Seeded whole numbers in [low, high)."""
    return np.random.default_rng(seed).integers(low, high, shape)


def _affine(mb: Any, x: Any) -> Sequence[Any]:
    weight = mb.constexpr_affine_dequantize(
        quantized_data=codes(30, -128, 128, *_SHAPE).astype(np.int8),
        zero_point=codes(31, -20, 20, OUT).astype(np.int8),
        scale=np.abs(eighths(32, OUT)) + np.float32(0.125),
        axis=0,
    )
    return _seen(mb, x, weight)


def _blockwise(mb: Any, x: Any) -> Sequence[Any]:
    from coremltools.converters.mil.mil import types

    weight = mb.constexpr_blockwise_shift_scale(
        data=codes(33, -8, 8, *_SHAPE).astype(np.int8).astype(types.np_int4_dtype),
        scale=np.abs(eighths(34, OUT, 2, 1, 1)) + np.float32(0.125),
        offset=codes(35, -3, 4, OUT, 2, 1, 1).astype(np.int8).astype(types.np_int4_dtype),
    )
    return _seen(mb, x, weight)


def _table(mb: Any, x: Any) -> Sequence[Any]:
    # Two-bit indices, four to a byte, the first in the lowest bits.
    indices = codes(36, 0, 4, OUT * IN // 4, 4)
    packed = (indices << np.array([0, 2, 4, 6])).sum(axis=1).astype(np.uint8)
    weight = mb.constexpr_lut_to_dense(
        indices=packed,
        lut=np.array([-2.5, 0.5, 1.25, 4], np.float32),
        shape=np.array(_SHAPE, np.uint32),
    )
    return _seen(mb, x, weight)


def _grouped_table(mb: Any, x: Any) -> Sequence[Any]:
    from coremltools.converters.mil.mil import types

    indices = codes(37, 0, 16, *_SHAPE).astype(np.uint8).astype(types.np_uint4_dtype)
    weight = mb.constexpr_lut_to_dense(indices=indices, lut=eighths(38, 2, 1, 1, 1, 16, 1))
    return _seen(mb, x, weight)


def _sparse(mb: Any, x: Any) -> Sequence[Any]:
    mask = codes(39, 0, 2, OUT * IN // 8, 8)
    packed = (mask << np.arange(8)).sum(axis=1).astype(np.uint8)
    weight = mb.constexpr_sparse_to_dense(
        nonzero_data=eighths(40, int(mask.sum())), mask=packed, shape=np.array(_SHAPE, np.uint32)
    )
    return _seen(mb, x, weight)


GOLDENS = tuple(
    Golden(
        f"weights-{name}",
        pins,
        Numbers.FLOAT32,
        program(body, {"x": (1, IN, 1, IN)}, target=target),
        _one_hot,
    )
    for name, pins, body, target in (
        ("affine", "int8 weights with a scale and zero point per channel", _affine, "iOS17"),
        ("blockwise", "int4 weights with a scale and offset per block", _blockwise, "iOS18"),
        ("table", "the bit order of two-bit indices into a table", _table, "iOS17"),
        ("grouped-table", "which table a group of four-bit indices uses", _grouped_table, "iOS18"),
        ("sparse", "the bit order of the mask of sparse weights", _sparse, "iOS17"),
    )
)
