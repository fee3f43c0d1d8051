"""Calibration covers every kind of target, records what it saw, and refuses unfit data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchao.quantization.pt2e import MinMaxObserver

import quantize.calibrate
from dfnet.capture import Capture, Split, Target, TargetKind
from dfnet.captureset import CaptureSet
from dfnet.defocus import targets_of_every_kind
from dfnet.errors import CalibrationError
from dfnet.signature import INPUTS
from quantize.calibrate import calibrate
from quantize.captures import MIN_CAPTURES

MakeCaptureSet = Callable[..., CaptureSet]


class Observed(nn.Module):
    """A stand-in for a prepared graph: one observer on the sum of all inputs."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.observer = MinMaxObserver(qscheme=torch.per_tensor_affine)
        self.feeds = 0

    def forward(self, *inputs: Tensor) -> Tensor:
        self.feeds += 1
        total: Tensor = self.observer(self.gain * sum(x.mean() for x in inputs))
        return total


def edit_captures(
    captures: CaptureSet, monkeypatch: pytest.MonkeyPatch, edit: Callable[[Capture], Capture]
) -> CaptureSet:
    """Makes every capture of the set load as ``edit`` leaves it."""
    load = CaptureSet.load
    monkeypatch.setattr(CaptureSet, "load", lambda self, id: edit(load(self, id)))
    return captures


@pytest.fixture
def eight(make_capture_set: MakeCaptureSet) -> CaptureSet:
    return make_capture_set(Split.CALIBRATION, MIN_CAPTURES, size=32)


def test_every_kind_of_target_and_every_input_is_covered(eight: CaptureSet) -> None:
    observed = Observed()

    calibration = calibrate(observed, eight)

    assert calibration.captures == 8
    assert calibration.feeds == observed.feeds == 24
    assert calibration.target_kinds == {
        "all-in-focus": 8,
        "refocus": 8,
        "shallower": 2,
        "deeper": 2,
        "tilt-shift": 2,
        "mask": 2,
    }
    assert set(calibration.coverage) == {spec.name for spec in INPUTS}
    for spread in calibration.coverage.values():
        assert 0 <= spread["minimum"] < spread["mean"] < spread["maximum"] <= 1


def test_coverage_is_what_the_captures_hold(eight: CaptureSet) -> None:
    wide = np.concatenate([capture.wide for capture in eight])

    coverage = calibrate(Observed(), eight).coverage["wide"]

    assert coverage["minimum"] == wide.min()
    assert coverage["maximum"] == wide.max()
    assert coverage["mean"] == pytest.approx(wide.mean(), abs=1e-6)


def test_the_identity_follows_the_captures(
    eight: CaptureSet, make_capture_set: MakeCaptureSet
) -> None:
    more = make_capture_set(Split.CALIBRATION, MIN_CAPTURES + 1, size=32)

    identity = calibrate(Observed(), eight).sha256

    assert len(identity) == 64
    assert identity == calibrate(Observed(), eight).sha256
    assert identity == calibrate(Observed(), more.take(MIN_CAPTURES)).sha256
    assert identity != calibrate(Observed(), more).sha256


def test_progress_counts_the_feeds(eight: CaptureSet) -> None:
    seen: list[tuple[int, int]] = []

    calibrate(Observed(), eight, progress=lambda done, total: seen.append((done, total)))

    assert seen == [(done, 24) for done in range(1, 25)]


@pytest.mark.parametrize("split", [Split.TRAINING, Split.VALIDATION, Split.HELD_OUT])
def test_captures_of_another_split_are_refused(
    split: Split, make_capture_set: MakeCaptureSet
) -> None:
    captures = make_capture_set(split, MIN_CAPTURES, size=32)

    with pytest.raises(CalibrationError, match=f"got the split {split}"):
        calibrate(Observed(), captures)


def test_too_few_captures_are_refused(make_capture_set: MakeCaptureSet) -> None:
    captures = make_capture_set(Split.CALIBRATION, MIN_CAPTURES - 1, size=32)

    with pytest.raises(CalibrationError, match="got 7, needed at least 8"):
        calibrate(Observed(), captures)


def test_a_missing_target_kind_is_refused(
    eight: CaptureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_masks(capture: Capture) -> tuple[Target, ...]:
        targets = targets_of_every_kind(capture)
        return tuple(target for target in targets if target.kind is not TargetKind.MASK)

    monkeypatch.setattr(quantize.calibrate, "targets_of_every_kind", without_masks)

    with pytest.raises(CalibrationError, match="got no mask target"):
        calibrate(Observed(), eight)


def test_an_input_that_never_changes_is_refused(
    eight: CaptureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def black(capture: Capture) -> Capture:
        return replace(capture, ultrawide=np.zeros_like(capture.ultrawide))

    with pytest.raises(CalibrationError, match="'ultrawide': got 0.0 everywhere"):
        calibrate(Observed(), edit_captures(eight, monkeypatch, black))


def test_an_input_that_is_not_finite_is_refused(
    eight: CaptureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(capture: Capture) -> Capture:
        capture.defocus_wide[0, 0, 3, 3] = np.nan
        return capture

    with pytest.raises(CalibrationError, match="not finite in 'defocus_wide'"):
        calibrate(Observed(), edit_captures(eight, monkeypatch, spoilt))


@pytest.mark.parametrize("gain", [float("nan"), float("inf")])
def test_an_activation_that_is_not_finite_is_refused(gain: float, eight: CaptureSet) -> None:
    with pytest.raises(CalibrationError, match="not finite at observer"):
        calibrate(Observed(gain), eight)


def test_no_check_stays_behind_in_the_graph(eight: CaptureSet) -> None:
    observed = Observed()

    calibrate(observed, eight)

    assert not observed.observer._forward_pre_hooks
