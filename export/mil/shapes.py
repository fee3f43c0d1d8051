"""Sizes that a package's description accepts: fixed, enumerated, or in a range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dfnet.errors import UnsupportedError

_ENDLESS = -1
"""A range's upper bound that means no bound (``SizeRange`` in FeatureTypes.proto)."""


def check_array_shape(name: str, array_type: Any, shape: Sequence[int]) -> None:
    """Whether an ``ArrayFeatureType`` message admits ``shape``.

    Raises:
        UnsupportedError: it does not; says which shapes it admits.
    """
    got = tuple(shape)
    flexibility = array_type.WhichOneof("ShapeFlexibility")
    if flexibility is None:
        needed = [tuple(array_type.shape)]
    elif flexibility == "enumeratedShapes":
        needed = [tuple(one.shape) for one in array_type.enumeratedShapes.shapes]
    else:
        ranges = array_type.shapeRange.sizeRanges
        if len(got) == len(ranges) and all(map(_within, got, ranges)):
            return
        raise _refused(name, got, " x ".join(map(_bounds, ranges)))
    if got not in needed:
        raise _refused(name, got, " or ".join(map(str, needed)))


def check_picture_size(name: str, image_type: Any, size: Sequence[int]) -> None:
    """Whether an ``ImageFeatureType`` message admits a picture of ``size`` (height, width).

    Raises:
        UnsupportedError: it does not; says which sizes it admits.
    """
    height, width = size
    flexibility = image_type.WhichOneof("SizeFlexibility")
    if flexibility == "imageSizeRange":
        ranges = image_type.imageSizeRange
        if _within(height, ranges.heightRange) and _within(width, ranges.widthRange):
            return
        limits = f"{_bounds(ranges.heightRange)} x {_bounds(ranges.widthRange)}"
        raise _refused(name, (height, width), limits)
    needed = [(image_type.height, image_type.width)]
    if flexibility == "enumeratedSizes":
        needed = [(one.height, one.width) for one in image_type.enumeratedSizes.sizes]
    if (height, width) not in needed:
        raise _refused(name, (height, width), " or ".join(map(str, needed)))


def _within(size: int, bounds: Any) -> bool:
    return bool(
        size >= bounds.lowerBound and (bounds.upperBound == _ENDLESS or size <= bounds.upperBound)
    )


def _bounds(bounds: Any) -> str:
    upper = "any" if bounds.upperBound == _ENDLESS else str(bounds.upperBound)
    return f"{bounds.lowerBound} to {upper}"


def _refused(name: str, got: tuple[int, ...], needed: str) -> UnsupportedError:
    return UnsupportedError(f"Core ML input {name}: got shape {got}, needed {needed}.")
