"""Scores against closed forms, and the ways a score can lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dfnet.capture import Capture
from dfnet.errors import MetricError
from dfnet.metrics import (
    Picture,
    gain_kept,
    psnr_db,
    region_scores,
    residual_psnr_db,
    residual_snr_db,
    ssim,
    worst_tile,
)


def flat(value: float, size: tuple[int, int] = (64, 64)) -> Picture:
    return np.full((1, 3, *size), value, np.float32)


def noise(seed: int, size: tuple[int, int] = (64, 64)) -> Picture:
    return np.random.default_rng(seed).random((1, 3, *size), np.float32)


PAIR_SCORES: list[Callable[[Picture, Picture], object]] = [
    psnr_db,
    ssim,
    worst_tile,
    lambda reference, candidate: residual_psnr_db(reference, candidate, np.zeros_like(reference)),
    lambda reference, candidate: residual_snr_db(reference, candidate, np.zeros_like(reference)),
]


def test_psnr_of_a_constant_error() -> None:
    assert psnr_db(flat(0.5), flat(0.6)) == pytest.approx(20, abs=1e-5)
    assert psnr_db(flat(0.5), flat(0.51)) == pytest.approx(40, abs=1e-4)


def test_psnr_of_one_wrong_pixel() -> None:
    candidate = flat(0.0, (8, 8))
    candidate[0, 0, 3, 3] = 1
    assert psnr_db(flat(0.0, (8, 8)), candidate) == pytest.approx(10 * math.log10(3 * 64))


def test_identical_pictures_score_infinity() -> None:
    picture = noise(0)
    assert psnr_db(picture, picture.copy()) == math.inf
    assert residual_psnr_db(picture, picture, picture) == math.inf
    assert ssim(picture, picture) == pytest.approx(1)


def test_the_peak_is_fixed_so_dark_pictures_are_not_flattered() -> None:
    dark, candidate = flat(0.05), flat(0.06)
    assert psnr_db(dark, candidate) == pytest.approx(40, abs=1e-4)
    # A peak taken from the data would report 14 dB instead, and 40 dB for a bright picture.
    assert psnr_db(dark, candidate, peak=float(dark.max())) != pytest.approx(40, abs=1)


@pytest.mark.parametrize("peak", [0, -1, math.nan, math.inf])
def test_refuses_a_peak_without_meaning(peak: float) -> None:
    with pytest.raises(MetricError, match="PSNR: got the peak"):
        psnr_db(flat(0), flat(1), peak=peak)


def test_overshoot_is_clipped_on_screen_but_counts_in_the_residual() -> None:
    reference, candidate, wide = flat(1.0), flat(1.1), flat(0.5)
    assert psnr_db(reference, candidate) == math.inf
    assert residual_psnr_db(reference, candidate, wide) == pytest.approx(20, abs=1e-4)


@pytest.mark.parametrize("score", PAIR_SCORES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_fails(
    score: Callable[[Picture, Picture], object], value: float
) -> None:
    good, bad = noise(0), noise(0)
    bad[0, 1, 2, 3] = value
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(MetricError, match="1 values that are NaN or infinite"):
            score(*pair)


@pytest.mark.parametrize("score", PAIR_SCORES)
@pytest.mark.parametrize(
    "bad",
    [
        noise(0).astype(np.float64),
        (noise(0) * 255).astype(np.uint8),
        noise(0)[:, :1],
        noise(0)[0],
        noise(0).transpose(0, 2, 3, 1),
        noise(0)[:0],
    ],
    ids=["float64", "uint8", "grey", "no batch", "NHWC", "empty"],
)
def test_pictures_that_do_not_compare_are_refused(
    score: Callable[[Picture, Picture], object], bad: Picture
) -> None:
    with pytest.raises(MetricError):
        score(noise(0), bad)
    with pytest.raises(MetricError):
        score(bad, bad)


@pytest.mark.parametrize("score", PAIR_SCORES)
def test_pictures_of_different_sizes_are_refused(
    score: Callable[[Picture, Picture], object],
) -> None:
    with pytest.raises(
        MetricError, match=r"\(1, 3, 64, 32\) against a reference of \(1, 3, 64, 64"
    ):
        score(noise(0), noise(0)[..., :32])


def test_a_destroyed_restoration_hides_in_psnr_and_not_in_the_residual() -> None:
    wide = noise(0)
    reference: Picture = wide + np.float32(0.02) * (noise(1) - np.float32(0.5))
    assert psnr_db(reference, wide) > 40
    assert residual_snr_db(reference, wide, wide) == pytest.approx(0, abs=1e-6)
    inverted: Picture = wide - (reference - wide)
    assert residual_snr_db(reference, inverted, wide) == pytest.approx(-6.02, abs=0.01)
    half: Picture = (wide + reference) / np.float32(2)
    assert residual_snr_db(reference, half, wide) == pytest.approx(6.02, abs=0.01)


def test_residual_snr_needs_a_residual() -> None:
    with pytest.raises(MetricError, match="got a reference equal to the wide picture"):
        residual_snr_db(flat(0.5), flat(0.6), flat(0.5))


def test_ssim_of_flat_pictures_in_closed_form() -> None:
    # Without variance only the luminance term is left: (2ab + C1) / (a^2 + b^2 + C1).
    c1 = 0.01**2
    expected = (2 * 0.4 * 0.6 + c1) / (0.4**2 + 0.6**2 + c1)
    assert ssim(flat(0.4), flat(0.6)) == pytest.approx(expected, abs=1e-6)
    assert ssim(noise(0), noise(1)) < 0.1


def test_ssim_refuses_pictures_smaller_than_its_window() -> None:
    assert ssim(noise(0, (11, 11)), noise(0, (11, 11))) == pytest.approx(1)
    with pytest.raises(MetricError, match="got 64x10 pixels, needed at least 11x11"):
        ssim(noise(0, (64, 10)), noise(0, (64, 10)))


def test_gain_kept_is_the_share_of_the_summed_gain() -> None:
    assert gain_kept([30, 30], [32, 34], [32, 34]) == 1
    assert gain_kept([30, 30], [32, 34], [31.9, 33.5]) == pytest.approx(5.4 / 6)
    assert gain_kept([30, 30], [32, 34], [30, 30]) == 0
    assert gain_kept([30, 30], [32, 34], [29, 28]) == pytest.approx(-0.5)


def test_gain_kept_is_none_when_there_is_hardly_a_gain() -> None:
    assert gain_kept([30, 30], [30.4, 30.4], [30.4, 30.4]) is None
    assert gain_kept([30, 30], [29, 29], [29, 29]) is None


def test_gain_kept_refuses_what_it_cannot_add_up() -> None:
    for scores in (([], [], []), ([30], [31, 32], [31, 32]), ([30, 30], [32, 32], [32])):
        with pytest.raises(MetricError, match="needed one each"):
            gain_kept(*scores)
    for bad in (math.inf, math.nan):
        with pytest.raises(MetricError, match="NaN or infinite"):
            gain_kept([30, 30], [32, bad], [32, 32])


def test_worst_tile_finds_damage_the_mean_hides() -> None:
    reference = noise(0, (256, 192))
    candidate = reference.copy()
    candidate[:, :, 130:138, 70:78] = 0
    found = worst_tile(reference, candidate)
    assert (found.y, found.x) == (128, 64)
    crop = np.s_[:, :, 128:192, 64:128]
    assert found.psnr_db == pytest.approx(psnr_db(reference[crop], candidate[crop]))
    assert found.psnr_db < psnr_db(reference, candidate) - 10


def test_worst_tile_covers_the_last_rows_and_small_pictures() -> None:
    reference, candidate = flat(0.5, (72, 100)), flat(0.5, (72, 100))
    candidate[:, :, -1, -1] = 1
    assert worst_tile(reference, candidate)[1:] == (8, 36)
    assert worst_tile(flat(0.5, (8, 8)), flat(0.6, (8, 8))).psnr_db == pytest.approx(20, abs=1e-5)
    with pytest.raises(MetricError, match="got 0 px tiles"):
        worst_tile(reference, candidate, tile=0)
    with pytest.raises(MetricError, match="one picture"):
        worst_tile(np.repeat(reference, 2, axis=0), np.repeat(candidate, 2, axis=0))


def test_regions_are_scored_apart(captures: tuple[Capture, ...]) -> None:
    capture = captures[0]
    reference = flat(0.5)
    reference[..., :8, :], reference[..., 8:16, :] = 0.05, 0.99
    candidate = reference + np.float32(0.001)
    candidate[(capture.occlusion > 0.5).repeat(3, axis=1)] += np.float32(0.1)
    scores = region_scores(reference, candidate, capture)
    assert set(scores) == {"in_focus", "defocused", "occluded", "dark", "saturated"}
    occluded, dark = scores["occluded"], scores["dark"]
    assert occluded is not None
    assert dark is not None
    assert occluded < 23 < dark


def test_a_region_without_pixels_has_no_score(captures: tuple[Capture, ...]) -> None:
    nowhere = np.zeros_like(captures[0].occlusion)
    capture = replace(captures[0], occlusion=nowhere, defocus_wide=nowhere)
    scores = region_scores(flat(0.5), flat(0.6), capture)
    assert scores == {
        "in_focus": pytest.approx(20, abs=1e-5),
        "defocused": None,
        "occluded": None,
        "dark": None,
        "saturated": None,
    }


def test_regions_need_the_captures_size(captures: tuple[Capture, ...]) -> None:
    with pytest.raises(MetricError, match="Score at the capture's size"):
        region_scores(flat(0.5, (64, 72)), flat(0.5, (64, 72)), captures[0])
