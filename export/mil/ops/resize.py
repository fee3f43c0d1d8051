"""Resizing by bilinear and nearest interpolation.

The operations follow coremltools' MIL definitions ``{iOS15,iOS16,iOS17}/image_resizing.py``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from dfnet.errors import UnsupportedError
from export.mil.registry import Ints, Result, Tensor, one_of, operation

_SAMPLING_MODES = (
    "DEFAULT",
    "STRICT_ALIGN_CORNERS",
    "ALIGN_CORNERS",
    "OFFSET_CORNERS",
    "UNALIGN_CORNERS",
)
# What torch calls these grids.
_ALIGN_CORNERS = {"UNALIGN_CORNERS": False, "STRICT_ALIGN_CORNERS": True}


@operation("upsample_bilinear")
def _upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1.0,
    scale_factor_width: float = 1.0,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Result:
    if align_corners and half_pixel_centers:
        raise UnsupportedError("got aligned corners with half-pixel centers, needed one of them")
    if align_corners:
        mode = "STRICT_ALIGN_CORNERS"
    else:
        mode = "DEFAULT" if half_pixel_centers is False else "UNALIGN_CORNERS"
    return _bilinear(x, _scaled(x, scale_factor_height, scale_factor_width), mode)


@operation("upsample_nearest_neighbor")
def _upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: float = 1.0, scale_factor_width: float = 1.0
) -> Result:
    return _nearest_below(x, _scaled(x, scale_factor_height, scale_factor_width))


@operation("resize_bilinear")
def _resize_bilinear(
    x: Tensor,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
) -> Result:
    return _bilinear(x, (target_size_height, target_size_width), sampling_mode)


@operation("resize_nearest_neighbor")
def _resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Result:
    return _nearest_below(x, (target_size_height, target_size_width))


@operation("resize")
def _resize(
    x: Tensor,
    shape: Ints,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Result:
    """Only the last ``resized_dims`` values of ``shape`` count; a 0 keeps the input's size."""
    one_of("interpolation mode", interpolation_mode, ("LINEAR", "NEAREST_NEIGHBOR"))
    if not resized_dims <= len(shape) <= x.dim():
        raise UnsupportedError(
            f"got {resized_dims} of {len(shape)} sizes, needed at most {x.dim()}"
        )
    kept = x.shape[x.dim() - resized_dims :]
    wanted = shape[len(shape) - resized_dims :]
    sizes = tuple(size or old for size, old in zip(wanted, kept, strict=True))
    if interpolation_mode == "LINEAR":
        return _bilinear(x, sizes, sampling_mode)
    return _nearest(x, sizes, sampling_mode)


def _scaled(x: Tensor, height: float, width: float) -> tuple[int, int]:
    """The sizes after scaling, in float32 as in coremltools: 10 times its 0.7 is 7, not less."""
    rows, columns = (
        math.floor(np.float32(factor) * np.float32(size))
        for factor, size in zip((height, width), x.shape[-2:], strict=True)
    )
    return rows, columns


def _grid(old: int, new: int, mode: str) -> tuple[Tensor, int]:
    """Where the input is sampled, as numerators and their denominator: fractions keep ties and
    whole numbers exact. The formulas are those of ``resize_bilinear``'s docstring."""
    one_of("sampling mode", mode, _SAMPLING_MODES)
    index = torch.arange(new)
    if mode == "DEFAULT":
        numerator, denominator = index * old, new
    elif mode == "OFFSET_CORNERS":
        numerator, denominator = (2 * index + 1) * max(1, old - 1), 2 * new
    elif mode == "UNALIGN_CORNERS":
        numerator, denominator = (2 * index + 1) * old - new, 2 * new
    elif new > 1:
        numerator, denominator = index * (old - 1), new - 1
    else:
        # A single point of STRICT_ALIGN_CORNERS is the first, of ALIGN_CORNERS the middle.
        numerator, denominator = index + (old - 1 if mode == "ALIGN_CORNERS" else 0), 2
    return numerator.clamp(0, (old - 1) * denominator), denominator


def _bilinear(x: Tensor, sizes: tuple[int, ...], mode: str) -> Tensor:
    """Linear interpolation of the last dimensions to ``sizes``."""
    one_of("sampling mode", mode, _SAMPLING_MODES)
    if not x.dtype.is_floating_point:
        raise UnsupportedError(f"got {x.dtype} to interpolate linearly, needed floats")
    if x.dim() == 4 and len(sizes) == 2 and mode in _ALIGN_CORNERS:
        aligned = _ALIGN_CORNERS[mode]
        return functional.interpolate(x, sizes, mode="bilinear", align_corners=aligned)
    for dimension, new in enumerate(sizes, start=x.dim() - len(sizes)):
        numerator, denominator = _grid(x.shape[dimension], new, mode)
        below = numerator // denominator
        fraction = (numerator - below * denominator).double() / denominator
        x = _between(x, dimension, below, fraction)
    return x


def _between(x: Tensor, dimension: int, below: Tensor, fraction: Tensor) -> Tensor:
    """The values ``fraction`` of the way from index ``below`` to the next."""
    above = (below + 1).clamp_max(x.shape[dimension] - 1)
    shape = [-1 if other == dimension else 1 for other in range(x.dim())]
    weight = fraction.to(x.dtype).reshape(shape)
    low, high = x.index_select(dimension, below), x.index_select(dimension, above)
    return low * (1 - weight) + high * weight


def _nearest(x: Tensor, sizes: tuple[int, ...], mode: str) -> Tensor:
    """The value nearest to the grid point, the upper of two (Apple's
    ``test_resize_nearest_neighbor`` expects rounding, not the value below)."""
    for dimension, new in enumerate(sizes, start=x.dim() - len(sizes)):
        numerator, denominator = _grid(x.shape[dimension], new, mode)
        index = (2 * numerator + denominator) // (2 * denominator)
        x = x.index_select(dimension, index)
    return x


def _nearest_below(x: Tensor, sizes: tuple[int, int]) -> Tensor:
    """The value at or below the point of the DEFAULT grid, as TensorFlow and torch do; the
    ratio of the sizes decides, not the factor (Apple's tests of fractional factors)."""
    for dimension, new in enumerate(sizes, start=x.dim() - 2):
        x = x.index_select(dimension, torch.arange(new) * x.shape[dimension] // new)
    return x


@operation("crop_resize")
def _crop_resize(
    x: Tensor,
    roi: Tensor | None = None,
    boxes: Tensor | None = None,
    box_indices: Tensor | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Result:
    """Boxes in corner coordinates, sampled with their corners aligned: the definitions do not say
    where a box given by its size begins, nor where the other grids lie in a box."""
    one_of("box coordinates", box_coordinate_mode, ("CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST"))
    one_of("sampling mode of boxes", sampling_mode, ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"))
    if (roi is None) == (boxes is None):
        raise UnsupportedError("got no or both of roi and boxes, needed one")
    height, width = x.shape[-2:]
    corners, images = _corners(x, roi, boxes, box_indices)
    if box_coordinate_mode == "CORNERS_WIDTH_FIRST":
        corners = corners[:, [1, 0, 3, 2]]
    if normalized_coordinates:
        corners = corners * torch.tensor([height - 1, width - 1] * 2)
    corners = corners * spatial_scale
    cut = []
    for (top, left, bottom, right), image in zip(corners.tolist(), images, strict=True):
        rows = _points(top, bottom, target_height, sampling_mode)
        columns = _points(left, right, target_width, sampling_mode)
        cut.append(_sample_box(image, rows, columns, pad_value))
    stacked = torch.stack(cut)
    return stacked if roi is None or roi.shape[2] == 4 else stacked.unsqueeze(1)


def _corners(
    x: Tensor, roi: Tensor | None, boxes: Tensor | None, box_indices: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """The boxes' numbers, and the image or images each of them is cut from."""
    if boxes is not None:
        order = range(len(boxes)) if box_indices is None else box_indices.long().tolist()
        return boxes.double(), [x[image] for image in order]
    assert roi is not None
    flat = roi.reshape(roi.shape[0], -1).double()
    if flat.shape[1] == 4:
        return flat, [x] * len(flat)
    return flat[:, 1:], [x[image] for image in flat[:, 0].long().tolist()]


def _points(first: float, last: float, count: int, mode: str) -> Tensor:
    if count == 1:
        middle = (first + last) / 2
        return torch.tensor([middle if mode == "ALIGN_CORNERS" else first], dtype=torch.float64)
    share = torch.arange(count).double() / (count - 1)
    return first * (1 - share) + last * share


def _sample_box(image: Tensor, rows: Tensor, columns: Tensor, pad_value: float) -> Tensor:
    """``image`` at the points' rows and columns; ``pad_value`` at those outside of it."""
    inside = []
    for dimension, points in ((-2, rows), (-1, columns)):
        last = image.shape[dimension] - 1
        inside.append((points >= 0) & (points <= last))
        clamped = points.clamp(0, last)
        below = clamped.floor()
        image = _between(image, image.dim() + dimension, below.long(), clamped - below)
    pad = torch.tensor(pad_value, dtype=image.dtype)
    return torch.where(inside[0][:, None] & inside[1], image, pad)
