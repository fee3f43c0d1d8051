"""Goldens that pin where values go: channel orders, interleaving, padding, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from export.mil.golden import (
    Golden,
    Inputs,
    Numbers,
    counted,
    eighths,
    picture_program,
    program,
    several_functions,
)


def _space_to_depth(mb: Any, x: Any) -> Sequence[Any]:
    return (mb.space_to_depth(x=x, block_size=2, name="y"),)


def _depth_to_space(mb: Any, x: Any) -> Sequence[Any]:
    return (mb.depth_to_space(x=x, block_size=2, name="y"),)


def _pixel_unshuffle(mb: Any, x: Any) -> Sequence[Any]:
    return (mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2), name="y"),)


def _pixel_shuffle(mb: Any, x: Any) -> Sequence[Any]:
    return (mb.pixel_shuffle(x=x, upscale_factor=2, name="y"),)


def _concat_interleave(mb: Any, x: Any, y: Any, z: Any) -> Sequence[Any]:
    return (mb.concat(values=[x, y, z], axis=1, interleave=True, name="joined"),)


def _interleaved_inputs() -> Inputs:
    parts = np.split(counted(1, 9, 2, 2), 3, axis=1)
    return dict(zip(("x", "y", "z"), parts, strict=True))


def _pad_modes(mb: Any, x: Any) -> Sequence[Any]:
    around = [2, 1, 1, 3]
    return (
        mb.pad(x=x, pad=around, mode="reflect", name="reflect"),
        mb.pad(x=x, pad=around, mode="replicate", name="replicate"),
        mb.pad(x=x, pad=around, mode="constant", constant_val=np.float32(7), name="constant"),
    )


def _picture(mb: Any, x: Any) -> Sequence[Any]:
    # Quarters, halves and three quarters at every parity, and values beyond both ends.
    shifts = np.tile(
        np.array([-0.5, -0.25, 0, 0.25, 0.5, 0.75, 1.5, 2.5], np.float32), (1, 1, 4, 1)
    )
    shifted = mb.add(x=x, y=shifts, name="shifted")
    return (mb.identity(x=shifted, name="rgb"), mb.identity(x=shifted, name="bgr"))


def _picture_inputs() -> Inputs:
    levels = np.random.default_rng(0).integers(0, 256, (4, 8, 3))
    levels[0], levels[1] = 0, 255
    return {"x": levels.astype(np.uint8)}


def _doubled(mb: Any, x: Any) -> Sequence[Any]:
    return (mb.add(x=mb.mul(x=x, y=np.float32(2)), y=eighths(1, 1, 3, 4, 4), name="y"),)


def _negated(mb: Any, x: Any) -> Sequence[Any]:
    return (mb.add(x=mb.mul(x=x, y=np.float32(-1)), y=eighths(1, 1, 3, 4, 4), name="y"),)


_TWO_FUNCTIONS = several_functions(
    {"doubled": _doubled, "negated": _negated}, {"x": (1, 3, 4, 4)}, default="negated"
)

GOLDENS = (
    Golden(
        "space-to-depth",
        "the order of the channels of space_to_depth",
        Numbers.FLOAT32,
        program(_space_to_depth, {"x": (1, 3, 4, 6)}),
        lambda: {"x": counted(1, 3, 4, 6)},
    ),
    Golden(
        "depth-to-space",
        "the order of the channels of depth_to_space",
        Numbers.FLOAT32,
        program(_depth_to_space, {"x": (1, 12, 2, 3)}),
        lambda: {"x": counted(1, 12, 2, 3)},
    ),
    Golden(
        "pixel-unshuffle",
        "the order of the channels of pixel_unshuffle",
        Numbers.FLOAT32,
        program(_pixel_unshuffle, {"x": (1, 3, 4, 6)}),
        lambda: {"x": counted(1, 3, 4, 6)},
    ),
    Golden(
        "pixel-shuffle",
        "the order of the channels of pixel_shuffle",
        Numbers.FLOAT32,
        program(_pixel_shuffle, {"x": (1, 12, 2, 3)}),
        lambda: {"x": counted(1, 12, 2, 3)},
    ),
    Golden(
        "concat-interleave",
        "how concat interleaves channels",
        Numbers.FLOAT32,
        program(_concat_interleave, dict.fromkeys(("x", "y", "z"), (1, 3, 2, 2))),
        _interleaved_inputs,
    ),
    Golden(
        "pad-modes",
        "reflect, replicate and constant padding of unequal sides",
        Numbers.FLOAT32,
        program(_pad_modes, {"x": (1, 2, 4, 5)}),
        lambda: {"x": counted(1, 2, 4, 5)},
    ),
    Golden(
        "picture-rounding",
        "how picture outputs round halves, clip, and order channels",
        Numbers.PICTURE,
        picture_program(_picture, {"x": (1, 3, 4, 8)}, {"rgb": "RGB", "bgr": "BGR"}),
        _picture_inputs,
    ),
    Golden(
        "function-default",
        "the function that runs when none is named",
        Numbers.FLOAT32,
        _TWO_FUNCTIONS,
        lambda: {"x": eighths(2, 1, 3, 4, 4)},
    ),
    Golden(
        "function-named",
        "a function that is not the default",
        Numbers.FLOAT32,
        _TWO_FUNCTIONS,
        lambda: {"x": eighths(2, 1, 3, 4, 4)},
        function="doubled",
    ),
)
