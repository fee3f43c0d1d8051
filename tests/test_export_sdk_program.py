"""The program of the SDKs' own int8: the float network, and captures of one size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dfnet.capture import Capture, Split
from dfnet.capturemanifest import Provenance
from dfnet.captureset import CaptureItem, CaptureSet, write_captures
from dfnet.errors import CalibrationError
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from dfnet.signature import OUTPUT, Feed
from dfnet.torch_runner import TorchRunner
from export.sdk_program import sdk_program
from quantize.recipe import find_recipe

RECIPE = find_recipe("sdk-default")


def test_it_is_the_float_network_with_the_usual_feeds(
    tiny_network: DFNet, feed: Feed, make_capture_set: Callable[..., CaptureSet]
) -> None:
    calibration = make_capture_set(Split.CALIBRATION, 8)
    program = sdk_program(tiny_network, RECIPE, calibration)
    np.testing.assert_array_equal(
        TorchRunner(program.module()).infer(feed)[OUTPUT],
        TorchRunner(tiny_network).infer(feed)[OUTPUT],
    )
    assert program.size == Resolution(64, 64)
    assert program.calibration is not None
    assert len(list(program.feeds())) == program.calibration.feeds == 24
    # A second pass gives the same: some SDKs take two.
    assert len(list(program.feeds())) == 24


def test_too_few_captures_are_refused(
    tiny_network: DFNet, make_capture_set: Callable[..., CaptureSet]
) -> None:
    with pytest.raises(CalibrationError, match="got 7, needed at least 8"):
        sdk_program(tiny_network, RECIPE, make_capture_set(Split.CALIBRATION, 7))


def test_captures_of_several_sizes_are_refused(
    tiny_network: DFNet, make_capture: Callable[..., Capture], tmp_path: Path
) -> None:
    items = [
        CaptureItem(
            make_capture(seed, size=64 if seed else 72),
            Provenance(sources=(f"synthetic-{seed}",), seed=seed, licence="CC0-1.0"),
        )
        for seed in range(8)
    ]
    mixed = write_captures(tmp_path / "mixed", Split.CALIBRATION, items, licence="CC0-1.0")
    with pytest.raises(CalibrationError, match="got calibration captures of 64x64, 72x72"):
        sdk_program(tiny_network, RECIPE, mixed)
