"""What a capture in memory accepts and refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dfnet.capture import MAX_DIOPTRES, Capture, Optics
from dfnet.errors import CaptureError
from dfnet.signature import INPUTS, check_feed


@pytest.fixture
def capture(captures: tuple[Capture, ...]) -> Capture:
    return captures[0]


def test_feed_has_the_networks_inputs_and_the_chosen_target(capture: Capture) -> None:
    target = capture.targets[1]
    feed = capture.feed(target)
    check_feed(feed)
    assert list(feed) == [spec.name for spec in INPUTS]
    assert feed["defocus_target"] is target.defocus


def test_synthetic_captures_leave_something_to_restore(captures: tuple[Capture, ...]) -> None:
    for capture in captures:
        for target in capture.targets:
            assert target.truth is not None
            assert np.abs(target.truth - capture.wide).mean() > 0.01


@pytest.mark.parametrize("name", ["ultrawide", "defocus_wide", "occlusion", "inverse_depth"])
def test_refuses_a_picture_of_another_size(capture: Capture, name: str) -> None:
    cropped = getattr(capture, name)[..., :56]
    with pytest.raises(CaptureError, match=rf"{name}: got float32 .*56\), needed .*64, 64\)"):
        replace(capture, **{name: cropped})


def test_refuses_sizes_the_network_cannot_halve_three_times(capture: Capture) -> None:
    with pytest.raises(CaptureError, match="got 64x60 pixels, needed multiples of 8"):
        replace(capture, wide=capture.wide[..., :60])


@pytest.mark.parametrize("shape", [(64, 64, 3), (0, 3, 64, 64), (1, 3, 0, 64)])
def test_refuses_a_wide_picture_that_is_not_nchw(capture: Capture, shape: tuple[int, ...]) -> None:
    with pytest.raises(CaptureError, match="needed \\(1, 3, height, width\\)"):
        replace(capture, wide=np.zeros(shape, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.01, 1.01])
def test_refuses_values_outside_the_range(capture: Capture, value: float) -> None:
    bad = capture.ultrawide.copy()
    bad[0, 0, 0, 0] = value
    with pytest.raises(CaptureError, match=r"ultrawide: got values outside \[0, 1\]"):
        replace(capture, ultrawide=bad)


def test_refuses_float64_and_uint8(capture: Capture) -> None:
    for dtype in (np.float64, np.uint8):
        with pytest.raises(CaptureError, match=f"wide: got {np.dtype(dtype)}"):
            replace(capture, wide=capture.wide.astype(dtype))


def test_refuses_depth_nearer_than_the_file_can_hold(capture: Capture) -> None:
    assert capture.inverse_depth is not None
    nearest = np.full_like(capture.inverse_depth, MAX_DIOPTRES)
    replace(capture, inverse_depth=nearest)
    with pytest.raises(CaptureError, match="inverse_depth: got values outside"):
        replace(capture, inverse_depth=nearest + 1)


def test_refuses_two_targets_of_one_name(capture: Capture) -> None:
    with pytest.raises(CaptureError, match="needed distinct names"):
        replace(capture, targets=(capture.targets[0], capture.targets[0]))


@pytest.mark.parametrize("values", [(0, 1), (-1, 1), (2, -1), (np.nan, 1), (2, np.inf)])
def test_refuses_impossible_optics(values: tuple[float, float]) -> None:
    with pytest.raises(CaptureError, match="Optics: got"):
        Optics(*values)
