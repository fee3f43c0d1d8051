"""Crops are the same every time, spread over the captures, and whole across the inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.signature import INPUTS, STRIDE
from dfnet.tensors import feed_tensors
from quantize.calibrate import calibration_feeds
from quantize.crops import SIDE_PX, Crop, cut_crops

MakeSet = Callable[..., CaptureSet]
_LARGE_PX = 192
_NAMES = [spec.name for spec in INPUTS]
_WIDE, _ULTRAWIDE, _TARGET = map(_NAMES.index, ("wide", "ultrawide", "defocus_target"))
_KEPT = [_ULTRAWIDE, _NAMES.index("defocus_ultrawide"), _NAMES.index("occlusion")]
"""Inputs that no variation of a crop exchanges."""


@pytest.fixture
def small(make_capture_set: MakeSet) -> CaptureSet:
    return make_capture_set(Split.CALIBRATION, 3)


@pytest.fixture
def large(make_capture_set: MakeSet) -> CaptureSet:
    return make_capture_set(Split.CALIBRATION, 2, size=_LARGE_PX)


def feeds(captures: CaptureSet) -> list[tuple[Tensor, ...]]:
    return [feed_tensors(capture.feed(target)) for capture, target in calibration_feeds(captures)]


def kept(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(inputs[index] for index in _KEPT)


def place(crop: Crop, whole: tuple[Tensor, ...]) -> list[tuple[int, int]]:
    """Where in ``whole`` all inputs of ``crop`` were cut."""
    last = _LARGE_PX - SIDE_PX
    places = [(top, left) for top in range(last + 1) for left in range(last + 1)]
    return [at for at in places if _is_at(crop, whole, *at)]


def _is_at(crop: Crop, whole: tuple[Tensor, ...], top: int, left: int) -> bool:
    rows, columns = slice(top, top + SIDE_PX), slice(left, left + SIDE_PX)
    pairs = zip(kept(crop), kept(whole), strict=True)
    return all(torch.equal(part, full[:, :, rows, columns]) for part, full in pairs)


def equal(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def sources(crops: tuple[Crop, ...], captures: CaptureSet) -> list[int]:
    """Which capture each whole crop is of."""
    pictures = [feed[_ULTRAWIDE] for feed in feeds(captures)[::3]]
    found = [
        i for crop in crops for i, x in enumerate(pictures) if torch.equal(crop[_ULTRAWIDE], x)
    ]
    assert len(found) == len(crops)
    return found


def test_a_small_capture_is_taken_whole(small: CaptureSet) -> None:
    for crop, feed in zip(cut_crops(small, 9), feeds(small), strict=True):
        assert equal(kept(crop), kept(feed))


def test_every_second_crop_is_varied_and_the_others_are_not(small: CaptureSet) -> None:
    crops, whole = cut_crops(small, 9), feeds(small)

    as_captured = [equal(crop, feed) for crop, feed in zip(crops, whole, strict=True)]

    assert as_captured[::2] == [True] * 5
    assert sum(as_captured[1::2]) <= 1
    assert all(x.min() >= 0 and x.max() <= 1 for crop in crops for x in crop)


def test_varied_crops_are_of_every_kind(small: CaptureSet) -> None:
    varied = cut_crops(small, 80)[1::2]
    captured = [feed[_TARGET] for feed in feeds(small)]

    constant = [c for c in varied if c[_TARGET].min() == c[_TARGET].max() > 0]
    borrowed = [c for c in varied if any(torch.equal(c[_TARGET], other) for other in captured)]
    sharper = [c for c in varied if torch.equal(c[_WIDE], c[_ULTRAWIDE])]

    assert len(constant) > 4
    assert len(borrowed) > 4
    assert len(constant) + len(borrowed) < len(varied)
    assert 4 < len(sharper) < len(varied) / 2


def test_inputs_come_in_order_and_contiguous(large: CaptureSet) -> None:
    for crop in cut_crops(large, 6):
        assert [x.shape for x in crop] == [(1, spec.channels, SIDE_PX, SIDE_PX) for spec in INPUTS]
        assert all(x.is_contiguous() and x.dtype == torch.float32 for x in crop)


def test_a_crop_is_the_same_place_of_every_input_and_on_the_stride(large: CaptureSet) -> None:
    crops, whole = cut_crops(large, 6), feeds(large)

    places = [at for crop, feed in zip(crops, whole, strict=True) for at in place(crop, feed)]

    assert len(places) == 6
    assert len(set(places)) > 1
    assert all(top % STRIDE == left % STRIDE == 0 for top, left in places)


@pytest.mark.parametrize("count", [0, 1, 5, 9, 20])
def test_there_are_as_many_as_asked_for(small: CaptureSet, count: int) -> None:
    assert len(cut_crops(small, count)) == count


def test_few_crops_are_spread_over_the_captures(small: CaptureSet) -> None:
    assert sources(cut_crops(small, 3), small) == [0, 1, 2]


def test_many_crops_are_spread_evenly_over_the_captures(small: CaptureSet) -> None:
    counts = Counter(sources(cut_crops(small, 20), small))

    assert sum(counts.values()) == 20
    assert set(counts.values()) <= {6, 7}


def test_crops_repeat_and_another_seed_gives_others(large: CaptureSet) -> None:
    first, again, other = (cut_crops(large, 6, seed=seed) for seed in (0, 0, 1))

    assert all(equal(*pair) for pair in zip(first, again, strict=True))
    assert not all(equal(*pair) for pair in zip(first, other, strict=True))
