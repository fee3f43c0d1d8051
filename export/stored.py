"""Between real NCHW pictures and the numbers and layout in which a file takes or gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dfnet.manifest import Manifest, TensorSpec
from dfnet.signature import Feed

LEVELS = 255
"""The byte of 1.0 in a picture."""
SCALE = 1 / LEVELS
"""What one level is worth; the zero point is 0."""
BYTE_LAYOUT = "NHWC"

_TO_NHWC, _TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


def byte_spec(name: str, shape: Sequence[int]) -> TensorSpec:
    """A picture in bytes of the shape (1, height, width, channels); see ``export.app_io``."""
    return TensorSpec(name, tuple(map(int, shape)), "uint8", BYTE_LAYOUT, SCALE, 0)


def to_stored(real: npt.NDArray[np.float32], spec: TensorSpec) -> npt.NDArray[Any]:
    """``real``, NCHW, in the file's own numbers, saturated, and layout.

    Multiplies by the reciprocal of the scale, as torch's quantize does.
    """
    placed = real.transpose(_TO_NHWC) if _is_nhwc(spec) else real
    if spec.scale is None or spec.zero_point is None:
        return np.ascontiguousarray(placed)
    limits = np.iinfo(spec.dtype)
    codes = np.ascontiguousarray(placed) * np.float32(
        1 / spec.scale
    )  # then in place: photos' tensors are large
    np.rint(codes, out=codes)
    codes += spec.zero_point
    np.clip(codes, limits.min, limits.max, out=codes)
    return codes.astype(spec.dtype)


def stored_feed(feed: Feed, manifest: Manifest) -> dict[str, npt.NDArray[Any]]:
    """Every input as the file takes it, by name, in the file's order."""
    return {spec.name: to_stored(feed[spec.name], spec) for spec in manifest.inputs}


def from_stored(stored: npt.NDArray[Any], spec: TensorSpec) -> npt.NDArray[np.float32]:
    """The real numbers that ``stored`` stands for, NCHW."""
    placed = np.ascontiguousarray(stored.transpose(_TO_NCHW)) if _is_nhwc(spec) else stored
    if spec.scale is None or spec.zero_point is None:
        return placed.astype(np.float32, copy=False)
    return (placed.astype(np.float32) - spec.zero_point) * np.float32(spec.scale)


def _is_nhwc(spec: TensorSpec) -> bool:
    return spec.layout == BYTE_LAYOUT
