"""What goldens must compute, in numpy loops or torch: where values go and how grids lie."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from export.mil.golden import Inputs, eighths
from export.mil.golden_sampling import PADDING_MODES, RESIZED, SAMPLING_MODES

Array = npt.NDArray[Any]
Outputs = dict[str, Array]


def space_to_depth(inputs: Inputs) -> Outputs:
    x = inputs["x"]
    y = np.zeros((1, 12, 2, 3), np.float32)
    for c, i, j, down, across in np.ndindex(3, 2, 3, 2, 2):
        y[0, (down * 2 + across) * 3 + c, i, j] = x[0, c, 2 * i + down, 2 * j + across]
    return {"y": y}


def depth_to_space(inputs: Inputs) -> Outputs:
    x = inputs["x"]
    y = np.zeros((1, 3, 4, 6), np.float32)
    for c, i, j, down, across in np.ndindex(3, 2, 3, 2, 2):
        y[0, c, 2 * i + down, 2 * j + across] = x[0, (down * 2 + across) * 3 + c, i, j]
    return {"y": y}


def pixel_unshuffle(inputs: Inputs) -> Outputs:
    x = inputs["x"]
    y = np.zeros((1, 12, 2, 3), np.float32)
    for c, i, j, down, across in np.ndindex(3, 2, 3, 2, 2):
        y[0, c * 4 + down * 2 + across, i, j] = x[0, c, 2 * i + down, 2 * j + across]
    return {"y": y}


def pixel_shuffle(inputs: Inputs) -> Outputs:
    x = inputs["x"]
    y = np.zeros((1, 3, 4, 6), np.float32)
    for c, i, j, down, across in np.ndindex(3, 2, 3, 2, 2):
        y[0, c, 2 * i + down, 2 * j + across] = x[0, c * 4 + down * 2 + across, i, j]
    return {"y": y}


def concat_interleave(inputs: Inputs) -> Outputs:
    rows = [inputs[name][0, c] for c in range(3) for name in ("x", "y", "z")]
    return {"joined": np.stack(rows)[None]}


def pad_modes(inputs: Inputs) -> Outputs:
    x, around = inputs["x"], [(0, 0), (0, 0), (2, 1), (1, 3)]
    return {
        "reflect": np.pad(x, around, mode="reflect"),
        "replicate": np.pad(x, around, mode="edge"),
        "constant": np.pad(x, around, constant_values=7),
    }


def picture_rounding(inputs: Inputs) -> Outputs:
    levels = np.zeros((4, 8, 3), np.uint8)
    for row, column, c in np.ndindex(levels.shape):
        shift = [-0.5, -0.25, 0, 0.25, 0.5, 0.75, 1.5, 2.5][column]
        value = float(inputs["x"][row, column, c]) + shift
        levels[row, column, c] = min(255, max(0, math.floor(value + 0.5)))
    return {"rgb": levels, "bgr": levels[..., ::-1]}


def negated(inputs: Inputs) -> Outputs:
    return {"y": eighths(1, 1, 3, 4, 4) - inputs["x"]}


def doubled(inputs: Inputs) -> Outputs:
    return {"y": eighths(1, 1, 3, 4, 4) + 2 * inputs["x"]}


def grid(old: int, new: int, mode: str) -> Array:
    """The formulas of ``resize_bilinear``'s docstring."""
    index = np.arange(new)
    points = {
        "DEFAULT": index * old / new,
        "STRICT_ALIGN_CORNERS": index * (old - 1) / max(1, new - 1),
        "ALIGN_CORNERS": index * (old - 1) / (new - 1) if new > 1 else np.array([(old - 1) / 2]),
        "OFFSET_CORNERS": (index + 0.5) * (old - 1) / new,
        "UNALIGN_CORNERS": (index + 0.5) * old / new - 0.5,
    }[mode]
    return np.asarray(np.clip(points, 0, old - 1))


def resized(x: Array, rows: int, columns: int, mode: str, *, nearest: bool = False) -> Array:
    for axis, new in ((2, rows), (3, columns)):
        points = grid(x.shape[axis], new, mode)
        if nearest:
            x = x.take(np.floor(points + 0.5 + 1e-9).astype(int), axis)
            continue
        known = np.arange(x.shape[axis])
        x = np.apply_along_axis(lambda line: np.interp(points, known, line), axis, x)  # noqa: B023
    return x


def resize(inputs: Inputs, *, nearest: bool) -> Outputs:
    return {
        f"{mode.lower()}_{rows}x{columns}": resized(
            inputs["x"], rows, columns, mode, nearest=nearest
        )
        for mode in SAMPLING_MODES
        for rows, columns in RESIZED
    }


def upsample_bilinear(inputs: Inputs) -> Outputs:
    x = torch.from_numpy(inputs["x"])
    return {
        "aligned": functional.interpolate(x, (8, 7), mode="bilinear", align_corners=True).numpy(),
        "half_pixels": functional.interpolate(
            x, (8, 7), mode="bilinear", align_corners=False
        ).numpy(),
        "whole_pixels": resized(inputs["x"], 8, 7, "DEFAULT"),
    }


def upsample_nearest(inputs: Inputs) -> Outputs:
    y = np.zeros((1, 2, 12, 7), np.float32)
    for c, i, j in np.ndindex(2, 12, 7):
        y[0, c, i, j] = inputs["x"][0, c, i // 3, j * 5 // 7]
    return {"y": y}


def pixel(x: Array, row: int, column: int, padding: str) -> float:
    places = []
    for index, size in ((row, x.shape[0]), (column, x.shape[1])):
        if padding == "constant" and not 0 <= index < size:
            return 6.5
        around = [*range(size), *range(size - 2, 0, -1)]
        if padding == "symmetric":
            around = [*range(size), *range(size - 1, -1, -1)]
        clipped = min(max(index, 0), size - 1)
        places.append(clipped if padding == "border" else around[index % len(around)])
    return float(x[places[0], places[1]])


def sampled(x: Array, row: float, column: float, padding: str, *, nearest: bool) -> float:
    if nearest:
        return pixel(x, round(row), round(column), padding)
    top, left = math.floor(row), math.floor(column)
    down, across = row - top, column - left
    return sum(
        (down if a else 1 - down) * (across if b else 1 - across)
        * pixel(x, top + a, left + b, padding)
        for a in (0, 1)
        for b in (0, 1)
    )  # fmt: skip


def resample(inputs: Inputs) -> Outputs:
    x, at = inputs["x"], inputs["at"].astype(np.float64)
    outputs: Outputs = {}
    for sampling in ("bilinear", "nearest"):
        for padding in PADDING_MODES:
            for aligned in (True, False):
                y = np.zeros((1, 2, 5, 6))
                for c, i, j in np.ndindex(2, 5, 6):
                    across, down = at[0, i, j]
                    row = (down + 1) / 2 * 3 if aligned else ((down + 1) * 4 - 1) / 2
                    column = (across + 1) / 2 * 4 if aligned else ((across + 1) * 5 - 1) / 2
                    nearest = sampling == "nearest"
                    y[0, c, i, j] = sampled(x[0, c], row, column, padding, nearest=nearest)
                outputs[f"{sampling}_{padding}_{'aligned' if aligned else 'unaligned'}"] = y
    return outputs


def resample_half(inputs: Inputs, number: type = np.float16) -> Outputs:
    at = inputs["at"].astype(number).astype(np.float64)
    y = np.zeros((1, 1, 4, 64))
    for i, j in np.ndindex(4, 64):
        column, row = (at[0, i, j, 0] + 1) / 2 * 511, (at[0, i, j, 1] + 1) / 2
        y[0, 0, i, j] = sampled(inputs["x"][0, 0], row, column, "border", nearest=False)
    return {"y": y}


def avg_pool(inputs: Inputs) -> Outputs:
    x = torch.from_numpy(inputs["x"])
    return {
        f"{'ceil' if ceil else 'floor'}_{'without' if exclude else 'with'}_padding": (
            functional.avg_pool2d(x, 3, 2, 1, ceil_mode=ceil, count_include_pad=not exclude)
        ).numpy()
        for ceil in (False, True)
        for exclude in (False, True)
    }
