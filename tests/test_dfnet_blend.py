"""Colour matching and the baseline without a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dfnet.blend import match_colour, naive_blend
from dfnet.capture import Capture, Image
from dfnet.errors import CaptureError

EVERYWHERE_SEEN = np.zeros((1, 1, 64, 64), np.float32)


def flat(value: float, size: tuple[int, int] = (64, 64)) -> Image:
    return np.full((1, 3, *size), value, np.float32)


def test_colour_match_undoes_a_gain_and_an_offset(captures: tuple[Capture, ...]) -> None:
    wide = np.clip(captures[0].wide, 0.2, 0.8)
    gains = np.array([0.8, 1.1, 1.0], np.float32)[None, :, None, None]
    shifted = wide * gains + np.float32(0.05)
    hidden = captures[0].occlusion
    shifted[(hidden > 0.5).repeat(3, axis=1)] = 0
    matched = match_colour(wide, shifted, hidden)
    assert matched.dtype == np.float32
    seen = (hidden < 0.5).repeat(3, axis=1)
    np.testing.assert_allclose(matched[seen], wide[seen], atol=1e-5)


def test_colour_match_of_a_flat_scene_keeps_its_contrast() -> None:
    rng = np.random.default_rng(0)
    fine = np.tile(rng.random((1, 3, 16, 16), np.float32) * np.float32(0.2), (1, 1, 4, 4))
    ultrawide = np.float32(0.4) + fine
    matched = match_colour(ultrawide + np.float32(0.1), ultrawide, EVERYWHERE_SEEN)
    assert matched.std() == pytest.approx(ultrawide.std(), rel=0.1)
    assert matched.mean() == pytest.approx(ultrawide.mean() + 0.1, abs=1e-4)


def test_colour_match_handles_sizes_that_are_no_multiple_of_its_blocks() -> None:
    wide = np.random.default_rng(0).random((1, 3, 24, 40), np.float32)
    matched = match_colour(wide, wide, np.zeros((1, 1, 24, 40), np.float32))
    np.testing.assert_allclose(matched, wide, atol=1e-5)


def test_colour_match_refuses_what_it_cannot_fit() -> None:
    with pytest.raises(CaptureError, match="no 16x16 block that both cameras see"):
        match_colour(flat(0.5), flat(0.4), np.ones((1, 1, 64, 64), np.float32))
    with pytest.raises(CaptureError, match="needed one size"):
        match_colour(flat(0.5), flat(0.4, (32, 64)), EVERYWHERE_SEEN)


def test_naive_blend_takes_the_nearer_defocus(captures: tuple[Capture, ...]) -> None:
    capture = captures[0]
    sharp_target, near_target = capture.targets
    blended = naive_blend(capture, sharp_target)
    hidden = (capture.occlusion > 0.5).repeat(3, axis=1)
    np.testing.assert_array_equal(blended[hidden], capture.wide[hidden])
    softer = (capture.defocus_wide > capture.defocus_ultrawide).repeat(3, axis=1) & ~hidden
    assert softer.any()
    np.testing.assert_array_equal(blended[softer], capture.ultrawide[softer])
    as_it_is = naive_blend(capture, replace(near_target, defocus=capture.defocus_wide))
    np.testing.assert_array_equal(as_it_is, capture.wide)
