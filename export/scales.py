"""The numbers an int8 network is made of, whatever holds it: weight codes, scales, zero points.

One calibrated graph serves every runtime. ``export.scales_graph`` reads these numbers from the
graph, each runtime's reader from the file it wrote, and ``export.scales_check`` compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Format = Literal["float32", "float16"]
_FORMATS = {"float32": np.float32, "float16": np.float16}
_SLACK = 1e-6
"""Relative difference of two float32 scales that came from one number on different ways."""
_LOWEST, _HIGHEST = -128, 127
_UNSIGNED_SHIFT = 128
"""uint8 codes are int8 codes plus this; so are their zero points."""


@dataclass(frozen=True)
class TensorScale:
    """One int8 tensor: real = scale * (code - zero_point).

    ``scale`` holds one number, or one per output channel of a weight. ``zero_point`` is that of
    int8 codes, also where the file holds uint8. ``stored`` is the number format that the scale has
    been rounded to, ``roundings`` how often.
    """

    name: str
    scale: tuple[float, ...]
    zero_point: int
    stored: Format = "float32"
    roundings: int = 1

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest real number that a code stands for."""
        scale = max(self.scale)
        return scale * (_LOWEST - self.zero_point), scale * (_HIGHEST - self.zero_point)

    def equals(self, other: TensorScale) -> bool:
        """Whether rounding to the coarser of both formats explains the difference in scales, and
        the zero points are the same."""
        if self.zero_point != other.zero_point or len(self.scale) != len(other.scale):
            return False
        mine, theirs = np.asarray(self.scale), np.asarray(other.scale)
        allowed = np.maximum(self._steps(), other._steps())
        return bool((np.abs(mine - theirs) <= allowed).all())

    def _steps(self) -> npt.NDArray[np.float64]:
        """How far each scale can be from the one it was rounded from, and a bit."""
        scale = np.asarray(self.scale)
        steps = self.roundings * np.spacing(scale.astype(_FORMATS[self.stored]))
        allowed: npt.NDArray[np.float64] = np.maximum(steps.astype(np.float64), _SLACK * scale)
        return allowed

    def __str__(self) -> str:
        low, high = min(self.scale), max(self.scale)
        scale = f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
        return f"scale {scale}, zero point {self.zero_point}"


@dataclass(frozen=True)
class ConvolutionScales:
    """One convolution that computes with int8 weights and an int8 input.

    ``codes`` are the weight's int8 codes, output channel first, then NCHW order: what identifies a
    convolution in every file. ``output`` is the int8 tensor after a ReLU fused into the
    convolution, None where its result stays float.
    """

    name: str
    codes: bytes
    weight: TensorScale
    input: TensorScale
    output: TensorScale | None


@dataclass(frozen=True)
class Quantization:
    """All int8 tensors of a graph or a file.

    ``tensors`` are activations, convolutions' included, in order of execution. ``requantized`` are
    activations turned from one scale into another with nothing in between. ``remarks`` are facts
    about scales that a file holds in another form than the graph.
    """

    convolutions: tuple[ConvolutionScales, ...]
    tensors: tuple[TensorScale, ...]
    requantized: tuple[tuple[TensorScale, TensorScale], ...] = ()
    remarks: tuple[str, ...] = ()


def signed(zero_point: int, dtype: str) -> int:
    """The zero point of int8 codes for one of ``dtype``, int8 or uint8."""
    return zero_point - _UNSIGNED_SHIFT if dtype == "uint8" else zero_point


def weight_bytes(codes: npt.NDArray[Any], axis: int) -> bytes:
    """Codes in NCHW order with output channels along ``axis`` (0 or 1), output channel first."""
    return np.ascontiguousarray(codes.swapaxes(0, axis), np.int8).tobytes()


def weight_bytes_nhwc(codes: npt.NDArray[Any], axis: int) -> bytes:
    """The same for channels-last codes: (out, h, w, in) for ``axis`` 0, as phone runtimes hold
    convolutions, (1, h, w, out) for 3, their depthwise ones; matrices (out, in) are as they are."""
    if codes.ndim == 4:
        codes = codes.transpose(0, 3, 1, 2) if axis == 0 else codes.transpose(3, 0, 1, 2)
    return weight_bytes(codes, 0)
