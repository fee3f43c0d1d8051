"""Sampling an image at given coordinates.

The operations follow coremltools' MIL definitions ``{iOS15,iOS16,iOS17}/image_resizing.py``.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from dfnet.errors import UnsupportedError
from export.mil.registry import Result, Tensor, one_of, operation

_PADDING_MODES = ("constant", "border", "reflection", "symmetric")
_COORDINATES_MODES = ("unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one")
# torch's name of (padding mode, align_corners); its reflection is at the centers of the edges'
# pixels with aligned corners and at their outer sides without.
_IN_TORCH = {
    ("constant", True): "zeros",
    ("constant", False): "zeros",
    ("border", True): "border",
    ("border", False): "border",
    ("reflection", True): "reflection",
    ("symmetric", False): "reflection",
}


@operation("resample")
def _resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Result:
    """``padding_value`` only counts in "constant", where the image is surrounded by it."""
    one_of("sampling mode", sampling_mode, ("bilinear", "nearest"))
    one_of("padding mode", padding_mode, _PADDING_MODES)
    one_of("coordinates mode", coordinates_mode, _COORDINATES_MODES)
    coordinates = coordinates.to(x.dtype)
    in_torch = _IN_TORCH.get((padding_mode, align_corners))
    if (
        in_torch is not None
        and coordinates_mode == "normalized_minus_one_to_one"
        and (in_torch != "zeros" or padding_value == 0)
    ):
        return functional.grid_sample(x, coordinates, sampling_mode, in_torch, align_corners)
    height, width = x.shape[-2:]
    across = _in_pixels(coordinates[..., 0], width, coordinates_mode, align_corners)
    down = _in_pixels(coordinates[..., 1], height, coordinates_mode, align_corners)
    across, down = _fold(across, width, padding_mode), _fold(down, height, padding_mode)
    if sampling_mode == "nearest":
        return _at(x, across.round(), down.round(), padding_value)
    return _bilinear(x, across, down, padding_value)


def _in_pixels(value: Tensor, size: int, mode: str, align_corners: bool) -> Tensor:
    """Coordinates of one axis, in pixels from the center of the first one."""
    if mode == "unnormalized":
        return value
    share = (value + 1) / 2 if mode == "normalized_minus_one_to_one" else value
    return share * (size - 1) if align_corners else share * size - 0.5


def _fold(value: Tensor, size: int, mode: str) -> Tensor:
    """Brings coordinates into the image as the padding mode says."""
    if mode == "constant":
        return value
    if mode == "reflection" and size > 1:
        value = _mirror(value, size - 1)
    elif mode == "symmetric":
        value = _mirror(value + 0.5, size) - 0.5
    return value.clamp(0, size - 1)


def _mirror(value: Tensor, length: int) -> Tensor:
    """Mirrors coordinates at 0 and ``length`` until they lie between."""
    rest = torch.remainder(value, 2 * length)
    return torch.minimum(rest, 2 * length - rest)


def _bilinear(x: Tensor, across: Tensor, down: Tensor, outside: float) -> Tensor:
    left, top = across.floor(), down.floor()
    to_right, to_bottom = (across - left)[:, None], (down - top)[:, None]
    upper = _at(x, left, top, outside) * (1 - to_right)
    upper = upper + _at(x, left + 1, top, outside) * to_right
    lower = _at(x, left, top + 1, outside) * (1 - to_right)
    lower = lower + _at(x, left + 1, top + 1, outside) * to_right
    return upper * (1 - to_bottom) + lower * to_bottom


def _at(x: Tensor, across: Tensor, down: Tensor, outside: float) -> Tensor:
    """The pixels at whole coordinates; ``outside`` where there is none."""
    batch, channels, height, width = x.shape
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    column, row = across.clamp(0, width - 1).long(), down.clamp(0, height - 1).long()
    flat = (row * width + column).reshape(batch, 1, -1)
    pixels = torch.take_along_dim(x.reshape(batch, channels, -1), flat, 2)
    pixels = pixels.reshape(batch, channels, *across.shape[1:])
    return torch.where(inside[:, None], pixels, torch.tensor(outside, dtype=x.dtype))


@operation("affine")
def _affine(
    x: Tensor,
    transform_matrix: Tensor,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Result:
    """Maps (x, y) of the output to the input, both in [-1, 1]; the definition supports only these
    modes, in any case of letters."""
    one_of("sampling mode", sampling_mode.lower(), ("bilinear",))
    one_of("padding mode", padding_mode.lower(), ("constant",))
    one_of("coordinates mode", coordinates_mode.lower(), ("normalized_minus_one_to_one",))
    if padding_value or not align_corners:
        raise UnsupportedError(
            f"got the padding value {padding_value} and align_corners {align_corners}, needed 0 "
            "and true"
        )
    if min(output_height, output_width) < 2:
        raise UnsupportedError(
            f"got an output of {output_height} x {output_width}, needed 2 x 2 at least: the "
            "definition does not place a single pixel"
        )
    matrices = transform_matrix.reshape(-1, 2, 3).to(x.dtype)
    size = [x.shape[0], x.shape[1], output_height, output_width]
    grid = functional.affine_grid(matrices.expand(x.shape[0], 2, 3), size, align_corners=True)
    return functional.grid_sample(x, grid, "bilinear", "zeros", align_corners=True)
