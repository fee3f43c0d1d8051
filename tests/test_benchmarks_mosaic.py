from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.mosaic import Mosaic, fill_frame
from dfnet.capture import Capture, TargetKind
from dfnet.errors import CaptureError
from dfnet.profiles import Resolution
from dfnet.signature import check_feed

MakeCapture = Callable[..., Capture]


def scored_pixels(mosaic: Mosaic) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    counts = np.zeros(mosaic.truth.shape[2:], np.int64)
    for tile in mosaic.tiles:
        counts[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
    return counts


def test_twelve_captures_fill_a_three_by_four_frame_exactly(make_capture: MakeCapture) -> None:
    captures = [make_capture(seed) for seed in range(12)]
    mosaics = fill_frame(captures, Resolution(3 * 64, 4 * 64))
    assert [mosaic.target for mosaic in mosaics] == ["aif", "near"]
    for mosaic in mosaics:
        check_feed(mosaic.feed)
        assert [tile.capture for tile in mosaic.tiles] == [capture.id for capture in captures]
        assert (scored_pixels(mosaic) == 1).all()


def test_every_picture_lands_where_its_tile_says(captures: tuple[Capture, ...]) -> None:
    mosaic = fill_frame(captures, Resolution(128, 128))[1]
    by_id = {capture.id: capture for capture in captures}
    for tile in mosaic.tiles:
        capture = by_id[tile.capture]
        target = capture.targets[1]
        for name, picture in capture.feed(target).items():
            assert np.array_equal(tile.crop(mosaic.feed[name]), picture)
        assert target.truth is not None
        assert np.array_equal(tile.crop(mosaic.truth), target.truth)
        assert mosaic.kind is TargetKind.REFOCUS
        assert np.array_equal(mosaic.part(tile).wide, capture.wide)


def test_a_larger_frame_repeats_captures_in_order_and_crops_at_the_far_edges(
    captures: tuple[Capture, ...],
) -> None:
    mosaic = fill_frame(captures, Resolution(104, 160))[0]
    first, second, third = (capture.id for capture in captures)
    assert [tile.capture for tile in mosaic.tiles] == [first, second, third] * 2
    assert [(t.height, t.width) for t in mosaic.tiles[2:4]] == [(64, 32), (40, 64)]
    assert (scored_pixels(mosaic) == 1).all()


def test_a_capture_larger_than_the_frame_is_cropped(captures: tuple[Capture, ...]) -> None:
    mosaic = fill_frame(captures[:1], Resolution(32, 48))[0]
    assert np.array_equal(mosaic.feed["wide"], captures[0].wide[:, :, :32, :48])
    assert (scored_pixels(mosaic) == 1).all()


def test_a_frame_too_small_for_all_captures_still_shows_each(
    captures: tuple[Capture, ...],
) -> None:
    mosaics = [m for m in fill_frame(captures, Resolution(64, 128)) if m.target == "aif"]
    shown = [tile.capture for mosaic in mosaics for tile in mosaic.tiles]
    ids = [capture.id for capture in captures]
    assert shown == [*ids, ids[0]]
    assert len({mosaic.id for mosaic in mosaics}) == 2


def test_targets_without_truth_are_not_scored(captures: tuple[Capture, ...]) -> None:
    blind = [
        replace(c, targets=(c.targets[0], replace(c.targets[1], truth=None))) for c in captures
    ]
    assert [mosaic.target for mosaic in fill_frame(blind, Resolution(64, 192))] == ["aif"]


def test_what_cannot_be_laid_out_is_an_error(
    captures: tuple[Capture, ...], make_capture: MakeCapture
) -> None:
    frame = Resolution(64, 64)
    with pytest.raises(CaptureError, match="no captures"):
        fill_frame([], frame)
    with pytest.raises(CaptureError, match="got 128x128, needed 64x64"):
        fill_frame([*captures, make_capture(9, size=128)], frame)
    blind = [replace(c, targets=()) for c in captures]
    with pytest.raises(CaptureError, match="no target with a true rendering"):
        fill_frame(blind, frame)
    first = captures[0]
    mixed = replace(
        first, targets=(replace(first.targets[0], kind=TargetKind.MASK), first.targets[1])
    )
    with pytest.raises(CaptureError, match="needed one kind"):
        fill_frame([mixed, *captures[1:]], frame)
