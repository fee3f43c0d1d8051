"""The lens against hand-computed numbers, and every way to ask for a target."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dfnet.capture import MAX_RADIUS_PX, Capture, Image, Optics, TargetKind
from dfnet.defocus import (
    Lens,
    all_in_focus,
    defocus_map,
    depth_of_field,
    mask,
    refocus_at_dioptres,
    refocus_at_pixel,
    targets_of_every_kind,
    tilt_shift,
)
from dfnet.errors import CaptureError

LENS = Lens(focal_length_mm=10, f_number=2, pixel_pitch_mm=0.01)
HALF_STEP = 0.5 / 255 + 1e-6
"""A stored map is within half a grey level of the computed one."""


@pytest.fixture
def capture(captures: tuple[Capture, ...]) -> Capture:
    return captures[0]


def band(capture: Capture, angle_degrees: float = 0.0, strength_px: float = 8.0) -> Image:
    return tilt_shift(
        capture,
        centre=(32, 20),
        half_height=5,
        angle_degrees=angle_degrees,
        strength_px=strength_px,
    ).defocus


def test_blur_of_a_hand_computed_lens() -> None:
    # A = 10 mm / 2 = 5 mm, f_px = 10 / 0.01 = 1000, focus at 2 m: 0.5 * 0.005 * 1000 / 0.995.
    assert LENS.aperture_mm == 5
    assert LENS.focal_length_px == pytest.approx(1000)
    assert LENS.blur_px_per_dioptre(focus_dioptres=0.5) == pytest.approx(2.512563, abs=1e-6)
    assert LENS.blur_px_per_dioptre(focus_dioptres=0.5, scale=0.25) == pytest.approx(
        0.628141, abs=1e-6
    )


@pytest.mark.parametrize(("z_mm", "focus_mm"), [(250, 1000), (1000, 250), (4000, 700), (300, 1e9)])
def test_blur_agrees_with_similar_triangles(z_mm: float, focus_mm: float) -> None:
    f = LENS.focal_length_mm
    sensor_mm, image_mm = f * focus_mm / (focus_mm - f), f * z_mm / (z_mm - f)
    radius_mm = LENS.aperture_mm / 2 * abs(image_mm - sensor_mm) / image_mm
    per_dioptre = LENS.blur_px_per_dioptre(focus_dioptres=1000 / focus_mm)
    radius_px = per_dioptre * abs(1000 / z_mm - 1000 / focus_mm)
    assert radius_px == pytest.approx(radius_mm / LENS.pixel_pitch_mm, rel=1e-9)


@pytest.mark.parametrize("values", [(0, 2, 0.01), (10, -2, 0.01), (10, 2, math.nan)])
def test_refuses_an_impossible_lens(values: tuple[float, float, float]) -> None:
    with pytest.raises(CaptureError, match="needed three positive numbers"):
        Lens(*values)


@pytest.mark.parametrize(("focus", "scale"), [(-1, 1), (100, 1), (math.nan, 1), (1, 0)])
def test_refuses_an_impossible_focus(focus: float, scale: float) -> None:
    with pytest.raises(CaptureError, match="needed 0 to 100 dioptres and a positive scale"):
        LENS.blur_px_per_dioptre(focus_dioptres=focus, scale=scale)


def test_map_is_the_unsigned_radius_and_saturates() -> None:
    depth = np.array([1.0, 0.0, 2.0, 3.0, 7.0], np.float32).reshape(1, 1, 1, 5)
    got = defocus_map(depth, Optics(blur_px_per_dioptre=4.0, focus_dioptres=1.0))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got.ravel() * MAX_RADIUS_PX, [0, 4, 4, 8, MAX_RADIUS_PX], rtol=1e-6)


def test_all_in_focus_is_zero_everywhere(capture: Capture) -> None:
    target = all_in_focus(capture)
    assert target.kind is TargetKind.ALL_IN_FOCUS
    assert target.truth is None
    assert not target.defocus.any()


def test_refocus_where_the_focus_already_is_gives_the_wide_map(capture: Capture) -> None:
    assert capture.optics is not None
    target = refocus_at_dioptres(capture, capture.optics.focus_dioptres)
    np.testing.assert_allclose(target.defocus, capture.defocus_wide, atol=HALF_STEP)
    moved = refocus_at_dioptres(capture, 3.0)
    np.testing.assert_allclose(moved.defocus, capture.targets[1].defocus, atol=HALF_STEP)


def test_refocus_at_a_pixel_makes_it_sharp(capture: Capture) -> None:
    for x, y in ((0, 0), (63, 63), (10, 40)):
        assert refocus_at_pixel(capture, x, y).defocus[0, 0, y, x] < 1 / MAX_RADIUS_PX


def test_refocus_at_a_pixel_ignores_a_stray_depth(capture: Capture) -> None:
    assert capture.inverse_depth is not None
    stray = capture.inverse_depth.copy()
    stray[0, 0, 30, 10] = 7.0
    expected = refocus_at_pixel(capture, 10, 30)
    got = refocus_at_pixel(replace(capture, inverse_depth=stray), 10, 30)
    assert got.name == expected.name


@pytest.mark.parametrize(("x", "y"), [(-1, 0), (0, -1), (64, 0), (0, 64)])
def test_refocus_refuses_a_pixel_outside(capture: Capture, x: int, y: int) -> None:
    with pytest.raises(CaptureError, match="needed x below 64 and y below 64"):
        refocus_at_pixel(capture, x, y)


@pytest.mark.parametrize("dioptres", [-0.1, 8.1, math.nan, math.inf])
def test_refocus_refuses_impossible_distances(capture: Capture, dioptres: float) -> None:
    with pytest.raises(CaptureError, match=r"needed 0 \(infinity\) to 8.00"):
        refocus_at_dioptres(capture, dioptres)


def test_refocus_needs_depth_and_optics(capture: Capture) -> None:
    without_targets = replace(capture, targets=())
    for bare in (
        replace(without_targets, inverse_depth=None),
        replace(without_targets, optics=None),
    ):
        for ask in (lambda bare: refocus_at_dioptres(bare, 1.0), targets_of_every_kind):
            with pytest.raises(CaptureError, match="got no inverse depth or optics"):
                ask(bare)


def test_depth_of_field_divides_the_blur(capture: Capture) -> None:
    deeper, shallower = depth_of_field(capture, 2.0), depth_of_field(capture, 0.5)
    assert (deeper.kind, shallower.kind) == (TargetKind.DEEPER, TargetKind.SHALLOWER)
    np.testing.assert_allclose(deeper.defocus, capture.defocus_wide / 2, rtol=1e-6)
    np.testing.assert_allclose(
        shallower.defocus, np.minimum(capture.defocus_wide * 2, 1), rtol=1e-6
    )


@pytest.mark.parametrize("ratio", [0, -2, 1, math.nan, math.inf])
def test_depth_of_field_refuses_a_ratio_without_meaning(capture: Capture, ratio: float) -> None:
    with pytest.raises(CaptureError, match="needed a positive number other than 1"):
        depth_of_field(capture, ratio)


def test_tilt_shift_is_a_sharp_band_with_ramps(capture: Capture) -> None:
    rows = band(capture)[0, 0] * MAX_RADIUS_PX
    assert np.ptp(rows, axis=1).max() == 0
    np.testing.assert_allclose(rows[[15, 20, 25], 0], 0)
    np.testing.assert_allclose(rows[[27, 13], 0], 8 * 2 / 5, rtol=1e-5)
    np.testing.assert_allclose(rows[[30, 10, 63], 0], 8, rtol=1e-6)


def test_tilt_shift_turns_about_its_centre(capture: Capture) -> None:
    upright = band(capture, angle_degrees=90)[0, 0]
    assert np.ptp(upright, axis=0).max() < 1e-6
    assert upright[0, 32] == 0
    clockwise = band(capture, angle_degrees=45)[0, 0]
    assert clockwise[20 + 9, 32 + 9] == 0
    assert clockwise[20 - 9, 32 + 9] > 0


def test_tilt_shift_refuses_numbers_without_meaning(capture: Capture) -> None:
    with pytest.raises(CaptureError, match="needed finite numbers"):
        band(capture, angle_degrees=math.nan)
    for strength_px in (0, 16, math.nan):
        with pytest.raises(CaptureError, match=r"at most 15.94 px"):
            band(capture, strength_px=strength_px)


def test_mask_blurs_what_is_not_sharp(capture: Capture) -> None:
    sharp = np.zeros((1, 1, 64, 64), np.float32)
    sharp[..., :32], sharp[..., 32:40] = 1, 0.5
    target = mask(capture, sharp, 6.0)
    radii = target.defocus[0, 0, 0, [0, 35, 50]] * MAX_RADIUS_PX
    np.testing.assert_allclose(radii, [0, 3, 6], rtol=1e-6)
    for bad in (sharp[..., :8], sharp * 2, sharp - 1, sharp + np.float32(np.nan)):
        with pytest.raises(CaptureError, match="Mask: got"):
            mask(capture, bad, 6.0)


def test_every_kind_once_and_own_targets_first(capture: Capture) -> None:
    targets = targets_of_every_kind(capture)
    assert targets[:2] == capture.targets
    assert sorted(target.kind for target in targets) == sorted(TargetKind)
    for target in targets[2:]:
        assert target.truth is None
        assert target.defocus.any()
        assert not np.array_equal(target.defocus, capture.defocus_wide)
    replace(capture, targets=targets)


def test_every_kind_from_a_capture_without_targets(capture: Capture) -> None:
    targets = targets_of_every_kind(replace(capture, targets=()))
    assert [target.kind for target in targets] == list(TargetKind)
