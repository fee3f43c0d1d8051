"""Resizing and resampling, against the formulas of MIL's docstrings point by point."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import export.mil.ops  # noqa: F401 - fills the registry
from dfnet.errors import UnsupportedError

from mil_kernels import Array, run

MODES = ("DEFAULT", "STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "OFFSET_CORNERS", "UNALIGN_CORNERS")


def noise(*shape: int) -> Array:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def grid(old: int, new: int, mode: str) -> list[float]:
    """The formulas of ``resize_bilinear``'s docstring."""
    if mode == "ALIGN_CORNERS" and new == 1:
        return [(old - 1) / 2]
    if mode.endswith("UNALIGN_CORNERS"):
        points = [i * old / new + 0.5 * old / new - 0.5 for i in range(new)]
    elif mode.endswith("ALIGN_CORNERS"):
        points = [i * (old - 1) / max(1, new - 1) for i in range(new)]
    elif mode == "DEFAULT":
        points = [i * old / new for i in range(new)]
    else:
        delta = max(1, old - 1) / new
        points = [0.5 * delta + i * delta for i in range(new)]
    return [min(old - 1, max(0, point)) for point in points]


def lerp(values: Array, point: float) -> Any:
    low = math.floor(point)
    high = min(low + 1, len(values) - 1)
    return values[low] * (1 - (point - low)) + values[high] * (point - low)


def expected(x: Array, sizes: tuple[int, int], mode: str, *, nearest: bool = False) -> Array:
    """Rows, then columns; the nearest of two is the upper one."""
    for axis, new in zip((-2, -1), sizes, strict=True):
        lines = np.moveaxis(x, axis, 0)
        points = grid(len(lines), new, mode)
        cut = [lines[math.floor(p + 0.5 + 1e-9)] if nearest else lerp(lines, p) for p in points]
        x = np.moveaxis(np.stack(cut), 0, axis)
    return x


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sizes", [(8, 3), (3, 11), (1, 14), (5, 7)])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (3, 5, 7)])
def test_every_sampling_mode(shape: tuple[int, ...], sizes: tuple[int, int], mode: str) -> None:
    x = noise(*shape)
    rows, columns = sizes
    bilinear = run(
        "resize_bilinear",
        x=x,
        target_size_height=rows,
        target_size_width=columns,
        sampling_mode=mode,
    )
    np.testing.assert_allclose(bilinear, expected(x, sizes, mode), atol=2e-6)
    common = {"x": x, "shape": [9, rows, columns], "resized_dims": 2, "sampling_mode": mode}
    np.testing.assert_allclose(run("resize", **common), bilinear, atol=1e-7)
    nearest = run("resize", **common, interpolation_mode="NEAREST_NEIGHBOR")
    np.testing.assert_array_equal(nearest, expected(x, sizes, mode, nearest=True))


def test_grids_of_the_docstring() -> None:
    x = np.array([[[0.0, 1.0]]], np.float32)
    for mode, points in {
        "UNALIGN_CORNERS": [0, 0.1, 0.5, 0.9, 1],
        "STRICT_ALIGN_CORNERS": [0, 0.25, 0.5, 0.75, 1],
        "ALIGN_CORNERS": [0, 0.25, 0.5, 0.75, 1],
        "DEFAULT": [0, 0.4, 0.8, 1, 1],
        "OFFSET_CORNERS": [0.1, 0.3, 0.5, 0.7, 0.9],
    }.items():
        result = run("resize_bilinear", x=x, target_size_width=5, sampling_mode=mode)
        np.testing.assert_allclose(result[0, 0], points, atol=1e-6)


def test_resize_rounds_where_the_older_operations_take_the_value_below() -> None:
    # Apple's test_resize_nearest_neighbor expects 0, 1, 1 for three of two.
    x = np.array([[[0.0], [1.0]]], np.float32)
    both = {"x": x, "shape": [3, 1], "resized_dims": 2}
    assert run("resize", **both, interpolation_mode="NEAREST_NEIGHBOR").ravel().tolist() == [
        0,
        1,
        1,
    ]
    older = run("resize_nearest_neighbor", x=x, target_size_height=3, target_size_width=1)
    assert older.ravel().tolist() == [0, 0, 1]


def test_resize_keeps_zeros_other_dimensions_and_integers() -> None:
    x = np.arange(4, dtype=np.int32).reshape(1, 2, 2)
    kept = run("resize", x=x, shape=[0, 4], resized_dims=2, interpolation_mode="NEAREST_NEIGHBOR")
    assert kept.dtype == np.int32
    assert kept.tolist() == [[[0, 1, 1, 1], [2, 3, 3, 3]]]
    with pytest.raises(UnsupportedError, match="floats"):
        run("resize", x=x, shape=[2, 4], resized_dims=2)
    with pytest.raises(UnsupportedError, match="interpolation mode"):
        run("resize", x=x, shape=[2], resized_dims=1, interpolation_mode="CUBIC")
    for interpolation in ("LINEAR", "NEAREST_NEIGHBOR"):
        with pytest.raises(UnsupportedError, match="sampling mode"):
            run(
                "resize",
                x=noise(2),
                shape=[3],
                resized_dims=1,
                interpolation_mode=interpolation,
                sampling_mode="HALF",
            )


@pytest.mark.parametrize(
    ("parameters", "mode"),
    [
        ({}, "STRICT_ALIGN_CORNERS"),
        ({"half_pixel_centers": False}, "STRICT_ALIGN_CORNERS"),
        ({"align_corners": False}, "UNALIGN_CORNERS"),
        ({"align_corners": False, "half_pixel_centers": True}, "UNALIGN_CORNERS"),
        ({"align_corners": False, "half_pixel_centers": False}, "DEFAULT"),
    ],
)
def test_upsample_bilinear(parameters: dict[str, bool], mode: str) -> None:
    x = noise(1, 2, 4, 5)
    scale = {"scale_factor_height": 2, "scale_factor_width": np.float32(1.5)}
    result = run("upsample_bilinear", x=x, **scale, **parameters)
    np.testing.assert_allclose(result, expected(x, (8, 7), mode), atol=2e-6)


def test_upsample_bilinear_cannot_align_corners_at_half_pixels() -> None:
    with pytest.raises(UnsupportedError, match="half-pixel"):
        run("upsample_bilinear", x=noise(1, 1, 2, 2), half_pixel_centers=True)


def test_upsample_nearest_uses_the_ratio_of_the_sizes() -> None:
    # Apple's TestUpsampleNearestNeighborFractionalScales: 1 / 1.12 would repeat the first value.
    x = np.array([[[1.5, -2.5, 3.5]]], np.float32)
    for factor, values in ((1.12, [1.5, -2.5, 3.5]), (0.67, [1.5, -2.5]), (7 / 3, None)):
        result = run("upsample_nearest_neighbor", x=x, scale_factor_width=np.float32(factor))
        repeated = [1.5] * 3 + [-2.5] * 2 + [3.5] * 2
        assert result[0, 0].tolist() == (values or repeated)


PADDING = ("constant", "border", "reflection", "symmetric")
COORDINATES = ("unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one")


def pixel(line: list[Any], index: int, padding: str, outside: Any) -> Any:
    """One value of a line that continues as MIL's examples of the padding modes show."""
    size = len(line)
    if padding == "constant":
        return line[index] if 0 <= index < size else outside
    if padding == "border":
        return line[min(max(index, 0), size - 1)]
    period = line + (line[-2:0:-1] if padding == "reflection" else line[::-1])
    return period[index % len(period)]


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("coordinates_mode", COORDINATES)
@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("padding_value", [0.0, 6.5])
def test_resample(
    padding: str, coordinates_mode: str, aligned: bool, sampling: str, padding_value: float
) -> None:
    x, size = noise(2, 3, 4, 5), (4, 5)
    pixels = np.random.default_rng(2).uniform(-7, 11, (2, 6, 7, 2))
    scale = [{True: n - 1, False: n}[aligned] for n in reversed(size)]
    share = (pixels + (0 if aligned else 0.5)) / scale
    given = {COORDINATES[0]: pixels, COORDINATES[1]: 2 * share - 1, COORDINATES[2]: share}
    result = run(
        "resample",
        x=x,
        coordinates=given[coordinates_mode].astype(np.float32),
        sampling_mode=sampling,
        padding_mode=padding,
        padding_value=padding_value,
        coordinates_mode=coordinates_mode,
        align_corners=aligned,
    )
    wanted = np.empty((2, 3, 6, 7))
    for n, c, i, j in np.ndindex(wanted.shape):
        lines = [list(line) for line in x[n, c].astype(float)]

        def at(row: int, column: int, lines: list[list[float]] = lines) -> float:
            across = [pixel(line, column, padding, padding_value) for line in lines]
            return float(pixel(across, row, padding, padding_value))

        column, row = pixels[n, i, j]
        if sampling == "nearest":
            wanted[n, c, i, j] = at(round(row), round(column))
            continue
        low = (math.floor(row), math.floor(column))
        corners = np.array([[at(low[0] + a, low[1] + b) for b in (0, 1)] for a in (0, 1)])
        wanted[n, c, i, j] = lerp(lerp(corners, row - low[0]), column - low[1])
    np.testing.assert_allclose(result, wanted, atol=5e-5)


def test_affine() -> None:
    # Apple's TestAffine.
    common = {"sampling_mode": "bilinear", "padding_mode": "constant", "padding_value": 0.0}
    common |= {"coordinates_mode": "normalized_minus_one_to_one", "align_corners": True}
    x = np.array([[[[11.0, 22.0], [33.0, 44.0]]]], np.float32)
    common |= {"x": x, "transform_matrix": [[-1.0, -2.0, -3.7, -1.0, 3.5, 1.2]]}
    result = run("affine", **common, output_height=2, output_width=5)
    values = [10.7525, 5.94, 2.5025, 0.44, 0, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(result.ravel(), values, atol=1e-4)
    for wrong in ({"padding_value": 1.0}, {"align_corners": False}, {"sampling_mode": "nearest"}):
        with pytest.raises(UnsupportedError):
            run("affine", **{**common, **wrong}, output_height=2, output_width=5)


def test_crop_resize() -> None:
    # Apple's TestCropResize of iOS16 and iOS17.
    x = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    boxes = np.array([[0.1, 0.3, 1.3, 1.0], [0.5, 1.8, 1.0, 0.3], [0, 0.4, 0.6, 0.7]], np.float32)
    common = {"x": x, "target_height": 2, "target_width": 2, "normalized_coordinates": True}
    common |= {"pad_value": 10.0, "sampling_mode": "ALIGN_CORNERS"}
    values = np.array([3.1, 5.2, 10, 10, 10, 7.9, 10, 13.9, 2.2, 3.1, 9.4, 10.3])
    result = run("crop_resize", **common, boxes=boxes, box_indices=[0, 0, 0])
    np.testing.assert_allclose(result, values.reshape(3, 1, 2, 2), atol=1e-5)
    common["box_coordinate_mode"] = "CORNERS_WIDTH_FIRST"
    boxes = boxes[:, [1, 0, 3, 2]]
    roi = np.pad(boxes, [(0, 0), (1, 0)]).reshape(3, 1, 5, 1, 1)
    old = run("crop_resize", **common, roi=roi)
    np.testing.assert_allclose(old, values.reshape(3, 1, 1, 2, 2), atol=1e-5)
    with pytest.raises(UnsupportedError, match="sampling mode of boxes"):
        run("crop_resize", **{**common, "sampling_mode": "DEFAULT"}, roi=roi)
