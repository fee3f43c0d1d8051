"""Goldens that pin arithmetic: convolutions, float16, quantization, activations, norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from export.mil.golden import Array, Golden, Inputs, Numbers, eighths, program

HALF_CHANNELS = 256
SCALE = np.float32(0.1)
"""Of ``quantize-division``: its reciprocal is not exact, so x / s and x * (1 / s) differ."""


def _conv_padding(mb: Any, x: Any) -> Sequence[Any]:
    even, odd = eighths(10, 3, 2, 4, 2), eighths(11, 3, 2, 3, 3)
    return tuple(
        mb.conv(x=x, weight=weight, strides=[2, 2], pad_type=padding, name=f"{kind}_{padding}")
        for kind, weight in (("even", even), ("odd", odd))
        for padding in ("same", "same_lower")
    )


def _conv_transpose(mb: Any, x: Any) -> Sequence[Any]:
    weight = eighths(12, 3, 2, 3, 3)
    stride = {"weight": weight, "strides": [2, 2]}
    return (
        mb.conv_transpose(
            x=x,
            **stride,
            pad_type="custom",
            pad=[1, 1, 1, 1],
            output_shape=[1, 2, 8, 10],
            name="larger",
        ),
        mb.conv_transpose(
            x=x,
            **stride,
            pad_type="custom",
            pad=[1, 1, 1, 1],
            output_shape=[1, 2, 7, 9],
            name="smaller",
        ),
        mb.conv_transpose(x=x, **stride, pad_type="valid", name="valid"),
    )


def half_weights() -> Array:
    """Float16 [4, HALF_CHANNELS, 3, 3]."""
    return eighths(13, 4, HALF_CHANNELS, 3, 3).astype(np.float16)


def _half_sums(mb: Any, x: Any) -> Sequence[Any]:
    half = mb.conv(
        x=mb.cast(x=x, dtype="fp16"),
        weight=half_weights(),
        pad_type="custom",
        pad=[1, 1, 1, 1],
    )
    return (mb.cast(x=half, dtype="fp32", name="y"),)


def _half_overflow(mb: Any, x: Any) -> Sequence[Any]:
    half = mb.cast(x=x, dtype="fp16")
    square = mb.mul(x=half, y=half, name="square_half")
    small = mb.mul(x=square, y=np.float16(2**-10))
    return (
        mb.cast(x=square, dtype="fp32", name="square"),
        mb.cast(x=small, dtype="fp32", name="small"),
    )


def _quantize_ties(mb: Any, x: Any) -> Sequence[Any]:
    one = np.float32(1)
    signed = mb.quantize(input=x, scale=one, output_dtype="int8")
    unsigned = mb.quantize(input=x, scale=one, zero_point=np.uint8(100), output_dtype="uint8")
    return (
        mb.cast(x=signed, dtype="fp32", name="signed"),
        mb.cast(x=unsigned, dtype="fp32", name="unsigned"),
        mb.dequantize(input=signed, scale=one, name="dequantized"),
    )


def _ties() -> Inputs:
    # Every half in range, and both ends beyond it.
    return {"x": np.linspace(-140, 159.5, 600, dtype=np.float32).reshape(1, 1, 20, 30)}


def _quantize_division(mb: Any, x: Any) -> Sequence[Any]:
    codes = mb.quantize(input=x, scale=SCALE, output_dtype="int8")
    return (mb.cast(x=codes, dtype="fp32", name="y"),)


def _nearly_ties() -> Inputs:
    halves = np.arange(-100, 100, dtype=np.float32) + np.float32(0.5)
    exact = halves * SCALE
    around = [exact, np.nextafter(exact, np.float32(99)), np.nextafter(exact, np.float32(-99))]
    return {"x": np.stack(around).reshape(1, 1, 20, 30)}


def _gelu(mb: Any, x: Any) -> Sequence[Any]:
    modes = ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")
    return tuple(mb.gelu(x=x, mode=mode, name=mode.lower()) for mode in modes)


def _norms(mb: Any, x: Any) -> Sequence[Any]:
    gamma, beta, mean = eighths(14, 3), eighths(15, 3), eighths(16, 3)
    variance = np.abs(eighths(17, 3)) + np.float32(0.5)
    affine = {"gamma": gamma, "beta": beta, "epsilon": np.float32(1e-3)}
    along = {"gamma": eighths(18, 4, 5), "beta": eighths(19, 4, 5), "epsilon": np.float32(1e-3)}
    return (
        mb.batch_norm(x=x, mean=mean, variance=variance, **affine, name="batch"),
        mb.instance_norm(x=x, **affine, name="instance"),
        mb.layer_norm(x=x, axes=[2, 3], **along, name="layer"),
    )


GOLDENS = (
    Golden(
        "conv-padding",
        "the side that same and same_lower pad more, of even and odd kernels with stride 2",
        Numbers.FLOAT32,
        program(_conv_padding, {"x": (1, 2, 7, 6)}),
        lambda: {"x": eighths(20, 1, 2, 7, 6)},
    ),
    Golden(
        "conv-transpose-shape",
        "where output_shape adds rows and columns to a transposed convolution",
        Numbers.FLOAT32,
        program(_conv_transpose, {"x": (1, 3, 4, 5)}),
        lambda: {"x": eighths(21, 1, 3, 4, 5)},
    ),
    Golden(
        "half-sums",
        f"the precision in which {HALF_CHANNELS * 9} float16 products are added",
        Numbers.FLOAT16,
        program(_half_sums, {"x": (1, HALF_CHANNELS, 4, 4)}),
        lambda: {"x": eighths(22, 1, HALF_CHANNELS, 4, 4)},
    ),
    Golden(
        "half-overflow",
        "whether a result over 65504 becomes infinite, saturates, or is kept in float32",
        Numbers.FLOAT16,
        program(_half_overflow, {"x": (1, 1, 4, 8)}),
        lambda: {"x": np.linspace(-300, 320, 32, dtype=np.float32).reshape(1, 1, 4, 8)},
    ),
    Golden(
        "quantize-ties",
        "which way quantize rounds halves, and how it clamps",
        Numbers.CODES,
        program(_quantize_ties, {"x": (1, 1, 20, 30)}),
        _ties,
    ),
    Golden(
        "quantize-division",
        "whether quantize divides by the scale or multiplies by its reciprocal",
        Numbers.CODES,
        program(_quantize_division, {"x": (1, 1, 20, 30)}),
        _nearly_ties,
    ),
    Golden(
        "gelu",
        "the formula of every mode of gelu",
        Numbers.FLOAT32,
        program(_gelu, {"x": (1, 1, 8, 8)}),
        lambda: {"x": eighths(23, 1, 1, 8, 8, limit=40)},
    ),
    Golden(
        "norms",
        "batch_norm, instance_norm and layer_norm: variance and epsilon",
        Numbers.FLOAT32,
        program(_norms, {"x": (1, 3, 4, 5)}),
        lambda: {"x": eighths(24, 1, 3, 4, 5)},
    ),
)
