"""Two things that need no network: matching the cameras' colours, and the baseline to beat."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dfnet.capture import Capture, Image, Target
from dfnet.errors import CaptureError

_BLOCK = 16
"""Side in pixels of the blocks whose means are matched: larger than any blur, so that focus does
not matter (worth 1.2 dB on the naive blend)."""

_MIN_VISIBLE = 0.5
"""Fraction of a block that both cameras must see."""


def match_colour(wide: Image, ultrawide: Image, occlusion: Image) -> Image:
    """``ultrawide`` with a gain and an offset per channel that fit it to ``wide``; in [0, 1].

    Least squares on the means of 16x16 blocks, outside ``occlusion`` (1 where the ultra-wide camera
    does not see the point). Where the blocks leave a choice, as in a flat scene, the correction
    nearest to none is taken.

    Raises:
        CaptureError: shapes do not fit, or no block is at least half visible.
    """
    if wide.shape != ultrawide.shape or occlusion.shape != (1, 1, *wide.shape[2:]):
        raise CaptureError(
            f"Colour match: got wide {wide.shape}, ultra-wide {ultrawide.shape}, occlusion "
            f"{occlusion.shape}, needed one size. Align the pictures first."
        )
    visible = (occlusion < 0.5).astype(np.float64)
    counts, areas = _block_sums(visible), _block_sums(np.ones_like(visible))
    kept = counts[0, 0] >= _MIN_VISIBLE * areas[0, 0]
    if not kept.any():
        raise CaptureError(
            "Colour match: got no 16x16 block that both cameras see, needed at least one. "
            "Check the occlusion mask: 1 means hidden from the ultra-wide camera."
        )
    of_wide, of_ultrawide = (
        (_block_sums(picture * visible) / np.maximum(counts, 1))[0][:, kept]
        for picture in (wide, ultrawide)
    )
    matched = [
        _corrected(ultrawide[0, channel], of_ultrawide[channel], of_wide[channel])
        for channel in range(wide.shape[1])
    ]
    return np.clip(np.stack(matched)[None], 0, 1).astype(np.float32)


def naive_blend(capture: Capture, target: Target) -> Image:
    """The baseline without a network: per pixel the picture whose defocus is nearer the target's.

    The wide picture is taken in ties and where the ultra-wide camera sees something else.
    """
    of_wide = np.abs(capture.defocus_wide - target.defocus)
    of_ultrawide = np.abs(capture.defocus_ultrawide - target.defocus)
    take_wide = (of_wide <= of_ultrawide) | (capture.occlusion >= 0.5)
    return np.where(take_wide, capture.wide, capture.ultrawide)


def _block_sums(image: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Sums over 16x16 blocks of (1, C, H, W); blocks at the far edges may be smaller."""
    height, width = image.shape[2:]
    rows = np.add.reduceat(image.astype(np.float64), range(0, height, _BLOCK), axis=2)
    return np.asarray(np.add.reduceat(rows, range(0, width, _BLOCK), axis=3))


def _corrected(
    plane: npt.NDArray[np.float32],
    of_ultrawide: npt.NDArray[np.float64],
    of_wide: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    # Solved for the change, because lstsq takes the smallest solution when there are many.
    inputs = np.stack([of_ultrawide, np.ones_like(of_ultrawide)], axis=1)
    (gain, offset), *_ = np.linalg.lstsq(inputs, of_wide - of_ultrawide, rcond=None)
    matched: npt.NDArray[np.float64] = plane.astype(np.float64) * (1 + gain) + offset
    return matched
