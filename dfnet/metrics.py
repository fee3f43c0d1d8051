"""Scores of one picture against another.

Pictures are float32 NCHW RGB. PSNR and SSIM clip to [0, 1] first, as a screen would, and use the
fixed peak 1.0: a peak taken from the data makes a dark picture look better than it is. The
residual measures do not clip, so that overshoot counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity

from dfnet.capture import MAX_RADIUS_PX, Capture
from dfnet.errors import MetricError

Picture = npt.NDArray[np.float32]
"""float32 NCHW with three channels."""

MIN_FLOAT_GAIN_DB = 0.5
"""Below this mean gain of the float network, a fraction of the gain means nothing."""

_IN_FOCUS_BELOW_PX = 1.0
_DARK_BELOW = 0.1
_SATURATED_FROM = 0.98
_LUMA = np.array([0.2126, 0.7152, 0.0722])[None, :, None, None]
"""ITU-R BT.709 luma weights, applied to the encoded values."""

_SSIM_WINDOW = 11
"""Side in pixels of the Gaussian window: sigma 1.5 cut at 3.5 sigma (Wang et al., 2004)."""


class WorstTile(NamedTuple):
    """The tile with the lowest PSNR; ``y`` and ``x`` are its first row and column."""

    psnr_db: float
    y: int
    x: int


def psnr_db(reference: Picture, candidate: Picture, *, peak: float = 1.0) -> float:
    """PSNR of the whole batch, both pictures clipped to [0, peak]; identical gives ``inf``.

    Raises:
        MetricError: pictures are empty, not finite, not RGB float32 NCHW, or differ in shape.
    """
    if not 0 < peak < math.inf:
        raise MetricError(f"PSNR: got the peak {peak}, needed a positive number. Use 1.0.")
    return _decibels(peak**2, float(_squared_error(reference, candidate, peak=peak).mean()))


def residual_psnr_db(reference: Picture, candidate: Picture, wide: Picture) -> float:
    """PSNR, peak 1.0, between the residuals reference - wide and candidate - wide, not clipped.

    The wide picture cancels, so this is the output's PSNR with overshoot counted. It is an absolute
    error, comparable between captures; ``residual_snr_db`` tells how much of a restoration it is.

    Raises:
        MetricError: as ``psnr_db``.
    """
    _, error = _residuals(reference, candidate, wide)
    return _decibels(1.0, float(np.square(error).mean()))


def residual_snr_db(reference: Picture, candidate: Picture, wide: Picture) -> float:
    """Energy of the reference's residual over energy of the candidate's error, not clipped.

    The residual is reference - wide: what the network adds. Losing all of it reads 0 dB however
    close the output is to its input; inverting it reads -6 dB; keeping it exactly reads ``inf``.

    Raises:
        MetricError: as ``psnr_db``; or the reference equals the wide picture, so that there is no
            residual to keep.
    """
    residual, error = _residuals(reference, candidate, wide)
    if not residual.any():
        raise MetricError(
            "Residual SNR: got a reference equal to the wide picture, needed one that changes it. "
            "Compare on a capture that the network restores."
        )
    return _decibels(float(np.square(residual).sum()), float(np.square(error).sum()))


def ssim(reference: Picture, candidate: Picture) -> float:
    """Mean SSIM, clipped to [0, 1]: Gaussian window of sigma 1.5, mean over channels and batch.

    Raises:
        MetricError: as ``psnr_db``; or a side is below 11 pixels.
    """
    pair = _clipped(reference, candidate, peak=1.0)
    if min(reference.shape[2:]) < _SSIM_WINDOW:
        raise MetricError(
            f"SSIM: got {reference.shape[2]}x{reference.shape[3]} pixels, needed at least "
            f"{_SSIM_WINDOW}x{_SSIM_WINDOW}. Compare larger pictures."
        )
    scores = [
        structural_similarity(
            one,
            other,
            data_range=1.0,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for one, other in zip(*pair, strict=True)
    ]
    return float(np.mean(scores))


def gain_kept(
    input_db: Sequence[float], float_db: Sequence[float], candidate_db: Sequence[float]
) -> float | None:
    """Share of the float network's gain that the candidate keeps: 1.0 is all of it.

    Each sequence holds a PSNR against the truth per capture and target, in the same order: of the
    wide picture, of the float network, of the candidate. None when the float network gains less
    than MIN_FLOAT_GAIN_DB on average.

    Raises:
        MetricError: sequences are empty, of different lengths, or hold NaN or infinity.
    """
    lengths = (len(input_db), len(float_db), len(candidate_db))
    if len(set(lengths)) > 1 or 0 in lengths:
        raise MetricError(
            f"Gain kept: got {lengths} scores for input, float and candidate, needed one each per "
            "capture and target. Score all three on the same captures."
        )
    scores = np.array([input_db, float_db, candidate_db], dtype=np.float64)
    if not np.isfinite(scores).all():
        raise MetricError(
            "Gain kept: got a score that is NaN or infinite, needed finite PSNRs. "
            "Leave out captures whose wide picture equals the truth."
        )
    of_input, of_float, of_candidate = scores.mean(axis=1)
    if of_float - of_input < MIN_FLOAT_GAIN_DB:
        return None
    return float((of_candidate - of_input) / (of_float - of_input))


def worst_tile(reference: Picture, candidate: Picture, *, tile: int = 64) -> WorstTile:
    """PSNR and place of the worst ``tile`` x ``tile`` square; damage can hide in a whole frame.

    Squares are laid side by side; the last row and column are moved inwards to stay full-sized. A
    picture smaller than a tile is one tile.

    Raises:
        MetricError: as ``psnr_db``; or ``tile`` is below 1, or the batch is not one picture.
    """
    if tile < 1 or reference.shape[:1] != (1,):
        raise MetricError(
            f"Worst tile: got {tile} px tiles of a batch of shape {reference.shape}, needed "
            "tiles of at least 1 px and one picture. Score pictures one by one."
        )
    error = _squared_error(reference, candidate, peak=1.0).mean(axis=(0, 1))
    means = {
        (y, x): float(error[y : y + tile, x : x + tile].mean())
        for y in _starts(error.shape[0], tile)
        for x in _starts(error.shape[1], tile)
    }
    y, x = max(means, key=means.__getitem__)
    return WorstTile(_decibels(1.0, means[y, x]), y, x)


def region_scores(
    reference: Picture, candidate: Picture, capture: Capture
) -> dict[str, float | None]:
    """PSNR by region; None where a region has no pixel. Regions may overlap.

    ``in_focus`` and ``defocused`` go by the wide picture's blur radius (1 px), ``occluded`` by the
    occlusion mask, ``dark`` (luma below 0.1) and ``saturated`` (a channel of 0.98 or more) by the
    reference, which is the truth when there is one.

    Raises:
        MetricError: as ``psnr_db``; or the pictures are not of the capture's size.
    """
    if reference.shape != capture.wide.shape:
        raise MetricError(
            f"Scores by region: got pictures of shape {reference.shape}, needed "
            f"{capture.wide.shape} like capture {capture.id}. Score at the capture's size."
        )
    error = _squared_error(reference, candidate, peak=1.0).mean(axis=1, keepdims=True)
    sharp = capture.defocus_wide * MAX_RADIUS_PX < _IN_FOCUS_BELOW_PX
    regions = {
        "in_focus": sharp,
        "defocused": ~sharp,
        "occluded": capture.occlusion > 0.5,
        "dark": (reference * _LUMA).sum(axis=1, keepdims=True) < _DARK_BELOW,
        "saturated": reference.max(axis=1, keepdims=True) >= _SATURATED_FROM,
    }
    return {
        name: _decibels(1.0, float(error[region].mean())) if region.any() else None
        for name, region in regions.items()
    }


def _starts(length: int, tile: int) -> list[int]:
    last = max(0, length - tile)
    return sorted({*range(0, last, tile), last})


def _decibels(signal: float, noise: float) -> float:
    return math.inf if noise == 0 else 10 * math.log10(signal / noise)


def _squared_error(
    reference: Picture, candidate: Picture, *, peak: float
) -> npt.NDArray[np.float64]:
    first, second = _clipped(reference, candidate, peak=peak)
    return np.square(first - second)


def _clipped(
    reference: Picture, candidate: Picture, *, peak: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    _check(reference, candidate)
    return (
        np.clip(reference.astype(np.float64), 0, peak),
        np.clip(candidate.astype(np.float64), 0, peak),
    )


def _residuals(
    reference: Picture, candidate: Picture, wide: Picture
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The reference's residual, and the error of the candidate's."""
    _check(reference, candidate, wide)
    residual = reference.astype(np.float64) - wide
    return residual, residual - (candidate.astype(np.float64) - wide)


def _check(reference: Picture, *others: Picture) -> None:
    shape = reference.shape
    for picture in (reference, *others):
        rgb = picture.ndim == 4 and picture.shape[1] == 3 and picture.size > 0
        if not rgb or picture.shape != shape or picture.dtype != np.float32:
            raise MetricError(
                f"Pictures to compare: got {picture.dtype} {picture.shape} against a reference of "
                f"{shape}, needed float32 (N, 3, H, W), equal and not empty. Convert them."
            )
        if not np.isfinite(picture).all():
            raise MetricError(
                f"Pictures to compare: got {np.count_nonzero(~np.isfinite(picture))} values that "
                "are NaN or infinite, needed finite ones. Look for an overflow or a miscompilation."
            )
