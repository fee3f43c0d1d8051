"""Between real numbers and the integers in which a file takes or gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dfnet.manifest import TensorSpec


def to_stored(real: npt.NDArray[np.float32], spec: TensorSpec) -> npt.NDArray[Any]:
    """``real`` in the file's own numbers, saturated.

    Multiplies by the reciprocal of the scale, as torch's quantize does.
    """
    if spec.scale is None or spec.zero_point is None:
        return np.ascontiguousarray(real)
    limits = np.iinfo(spec.dtype)
    codes = real * np.float32(1 / spec.scale)  # then in place: photos' tensors are large
    np.rint(codes, out=codes)
    codes += spec.zero_point
    np.clip(codes, limits.min, limits.max, out=codes)
    return codes.astype(spec.dtype)


def from_stored(stored: npt.NDArray[Any], spec: TensorSpec) -> npt.NDArray[np.float32]:
    """The real numbers that ``stored`` stands for."""
    if spec.scale is None or spec.zero_point is None:
        return stored.astype(np.float32, copy=False)
    return (stored.astype(np.float32) - spec.zero_point) * np.float32(spec.scale)
