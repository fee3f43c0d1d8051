"""Goldens that pin the grids of resizing and resampling, and the windows of pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from export.mil.golden import Golden, Inputs, Numbers, eighths, program

SAMPLING_MODES = (
    "DEFAULT",
    "STRICT_ALIGN_CORNERS",
    "ALIGN_CORNERS",
    "OFFSET_CORNERS",
    "UNALIGN_CORNERS",
)
RESIZED = ((7, 3), (8, 10), (1, 6))
"""Sizes that 4x5 is resized to; to a single row, the two kinds of aligned corners differ."""

PADDING_MODES = ("constant", "border", "reflection", "symmetric")
_IMAGE = (1, 2, 4, 5)


def _resize(interpolation: str) -> Callable[..., Sequence[Any]]:
    def body(mb: Any, x: Any) -> Sequence[Any]:
        return tuple(
            mb.resize(
                x=x,
                shape=[rows, columns],
                resized_dims=np.uint32(2),
                interpolation_mode=interpolation,
                sampling_mode=mode,
                name=f"{mode.lower()}_{rows}x{columns}",
            )
            for mode in SAMPLING_MODES
            for rows, columns in RESIZED
        )

    return body


def _upsample_bilinear(mb: Any, x: Any) -> Sequence[Any]:
    scale = {"scale_factor_height": np.float32(2), "scale_factor_width": np.float32(1.5)}
    return (
        mb.upsample_bilinear(x=x, **scale, align_corners=True, name="aligned"),
        mb.upsample_bilinear(
            x=x, **scale, align_corners=False, half_pixel_centers=True, name="half_pixels"
        ),
        mb.upsample_bilinear(
            x=x, **scale, align_corners=False, half_pixel_centers=False, name="whole_pixels"
        ),
    )


def _upsample_nearest(mb: Any, x: Any) -> Sequence[Any]:
    return (
        mb.upsample_nearest_neighbor(
            x=x, scale_factor_height=np.float32(3), scale_factor_width=np.float32(1.4), name="y"
        ),
    )


def _resample(mb: Any, x: Any, at: Any) -> Sequence[Any]:
    return tuple(
        mb.resample(
            x=x,
            coordinates=at,
            sampling_mode=sampling,
            padding_mode=padding,
            padding_value=np.float32(6.5),
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=aligned,
            name=f"{sampling}_{padding}_{'aligned' if aligned else 'unaligned'}",
        )
        for sampling in ("bilinear", "nearest")
        for padding in PADDING_MODES
        for aligned in (True, False)
    )


def _resample_inputs() -> Inputs:
    # Odd 32nds: never halfway between two pixels, where "nearest" could go either way.
    whole = np.random.default_rng(3).integers(-28, 28, (1, 5, 6, 2))
    return {"x": eighths(4, *_IMAGE), "at": ((2 * whole + 1) / 32).astype(np.float32)}


def _resample_half(mb: Any, x: Any, at: Any) -> Sequence[Any]:
    half = mb.resample(
        x=mb.cast(x=x, dtype="fp16"),
        coordinates=mb.cast(x=at, dtype="fp16"),
        sampling_mode="bilinear",
        padding_mode="border",
        padding_value=np.float16(0),
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=True,
    )
    return (mb.cast(x=half, dtype="fp32", name="y"),)


def _resample_half_inputs() -> Inputs:
    rng = np.random.default_rng(5)
    columns = rng.integers(0, 32768, (1, 4, 64)) / 16384 - 1
    at = np.stack([columns, np.zeros_like(columns)], axis=-1)
    return {"x": eighths(6, 1, 1, 2, 512, limit=8), "at": at.astype(np.float32)}


def _avg_pool(mb: Any, x: Any) -> Sequence[Any]:
    return tuple(
        mb.avg_pool(
            x=x,
            kernel_sizes=[3, 3],
            strides=[2, 2],
            pad_type="custom",
            pad=[1, 1, 1, 1],
            ceil_mode=ceil,
            exclude_padding_from_average=exclude,
            name=f"{'ceil' if ceil else 'floor'}_{'without' if exclude else 'with'}_padding",
        )
        for ceil in (False, True)
        for exclude in (False, True)
    )


def _image() -> Inputs:
    return {"x": eighths(7, *_IMAGE)}


GOLDENS = (
    Golden(
        "resize-linear",
        "the grid of every sampling mode of resize, linear",
        Numbers.FLOAT32,
        program(_resize("LINEAR"), {"x": _IMAGE}),
        _image,
    ),
    Golden(
        "resize-nearest",
        "the grid of every sampling mode of resize, nearest, and where halves go",
        Numbers.FLOAT32,
        program(_resize("NEAREST_NEIGHBOR"), {"x": _IMAGE}),
        _image,
    ),
    Golden(
        "upsample-bilinear",
        "align_corners and half_pixel_centers of upsample_bilinear",
        Numbers.FLOAT32,
        program(_upsample_bilinear, {"x": _IMAGE}),
        _image,
    ),
    Golden(
        "upsample-nearest",
        "which pixel upsample_nearest_neighbor takes at a fractional scale",
        Numbers.FLOAT32,
        program(_upsample_nearest, {"x": _IMAGE}),
        _image,
    ),
    Golden(
        "resample",
        "padding, alignment and interpolation of resample",
        Numbers.FLOAT32,
        program(_resample, {"x": _IMAGE, "at": (1, 5, 6, 2)}),
        _resample_inputs,
    ),
    Golden(
        "resample-half",
        "what float16 coordinates do to resample across 512 columns",
        Numbers.FLOAT16,
        program(_resample_half, {"x": (1, 1, 2, 512), "at": (1, 4, 64, 2)}),
        _resample_half_inputs,
    ),
    Golden(
        "avg-pool",
        "ceil_mode and exclude_padding_from_average of avg_pool",
        Numbers.FLOAT32,
        program(_avg_pool, {"x": (1, 2, 6, 7)}),
        lambda: {"x": eighths(8, 1, 2, 6, 7)},
    ),
)
