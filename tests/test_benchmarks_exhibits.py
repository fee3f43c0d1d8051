from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from benchmarks.checks import check_all
from benchmarks.exhibits import (
    MOST,
    SIDE_PX,
    TILE_PX,
    Exhibit,
    are_whole,
    choose,
    error_of,
    exhibits_of,
    keep_exhibits,
    pictures_folder,
    read_kept,
)
from benchmarks.mosaic import fill_frame
from benchmarks.parity import compare
from benchmarks.quality import TileQuality, score
from benchmarks.request import Request
from benchmarks.results import checks_path, read_checks
from benchmarks.verdict import Bar
from dfnet.capture import Capture, Image, Split
from dfnet.captureset import CaptureSet
from dfnet.checkpoint import Checkpoint
from dfnet.console import Progress
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from quantize.recipe import find_recipe

from fake_artifacts import CHECKPOINT_SHA256, write_artifact
from fakes import FakeRuntime, noise_of, use_fake_runtime

MakeCapture = Callable[..., Capture]


def tile(capture: str, target: str, drop_db: float) -> TileQuality:
    return TileQuality(
        capture, target, target, 20, 25, 30 + drop_db, 30, None, None, 20, regions={}
    )


def test_the_largest_and_smallest_drop_and_every_target_are_chosen() -> None:
    scores = [
        tile("one", "sharp", 0.1),
        tile("two", "sharp", 0.3),
        tile("one", "near", 0.2),
        tile("two", "near", 0.0),
        tile("one", "far", 0.05),
        tile("two", "far", 0.06),
    ]
    assert choose(scores) == {
        1: ("largest drop",),
        3: ("smallest drop",),
        5: ("largest drop of far",),
    }


def test_a_single_tile_is_the_largest_and_the_smallest() -> None:
    assert choose([tile("one", "sharp", 0.1)]) == {0: ("largest drop", "smallest drop")}


def test_many_targets_stay_within_bounds() -> None:
    scores = [tile("one", f"target {i}", i / 10) for i in range(20)]
    chosen = choose(scores)
    assert len(chosen) == MOST
    assert {19, 0} <= chosen.keys()


def kept(
    folder: Path, captures: tuple[Capture, ...], frame: Resolution, error: Image
) -> tuple[Exhibit, ...]:
    """Exhibits of a float network that is perfect and a file that is off by ``error``."""
    mosaics = fill_frame(captures, frame)
    floats = [mosaic.truth for mosaic in mosaics]
    outputs = [np.clip(one + error, -1, 2).astype(np.float32) for one in floats]
    bars = [Bar("psnr_db", "at least", 1)]
    parity = compare(mosaics, floats, outputs, names=("torch", "fake"), bars=bars)
    quality = score(mosaics, floats, outputs, parity=parity, recipe=find_recipe("fp32"))
    return keep_exhibits(folder, mosaics, floats, outputs, quality.tiles)


def test_pictures_are_lossless_and_cut_around_the_worst_square(
    tmp_path: Path, make_capture: MakeCapture
) -> None:
    capture = make_capture(1, 384)
    frame = Resolution(384, 384)
    error = np.zeros((1, 3, 384, 384), np.float32)
    error[:, 1, 320:, 256:320] = -0.01
    first = kept(tmp_path / "k", (capture,), frame, error)[0]
    assert (first.top, first.height, first.width) == (128, SIDE_PX, SIDE_PX)
    assert (first.top + first.tile_y, first.left + first.tile_x) == (320, 256)
    assert first.tile_db == pytest.approx(40 + 10 * np.log10(3), abs=0.01)
    cut = np.s_[first.top : first.top + SIDE_PX, first.left : first.left + SIDE_PX]
    truth = next(t.truth for t in capture.targets if t.name == first.target)
    assert truth is not None
    for role, expected in {"wide": capture.wide, "truth": truth, "float": truth}.items():
        data = read_kept(tmp_path / "k", first.pictures[role])
        assert isinstance(data, bytes)
        shown = np.asarray(Pillow.open(io.BytesIO(data)))
        assert (shown == np.rint(expected[0].transpose(1, 2, 0)[cut] * 255)).all()


def test_errors_keep_their_sign_and_size(tmp_path: Path, make_capture: MakeCapture) -> None:
    error = np.zeros((1, 3, 64, 64), np.float32)
    error[0, :, :, :32] = np.array([0.001, -0.004, 0.002])[:, None, None]
    error[0, :, :, 32:] = np.array([0.5, 0.1, 0.0])[:, None, None]
    for exhibit in kept(tmp_path / "k", (make_capture(0),), Resolution(64, 64), error):
        for role in ("error-float", "error-truth"):
            data = read_kept(tmp_path / "k", exhibit.pictures[role])
            assert isinstance(data, bytes)
            found = error_of(data)
            np.testing.assert_allclose(found[:, :32], -0.004, atol=2e-5)
            np.testing.assert_allclose(found[:, 32:], 0.5, atol=2e-5)


def test_a_capture_smaller_than_a_square_is_shown_whole(
    tmp_path: Path, make_capture: MakeCapture
) -> None:
    noise = noise_of((1, 3, 32, 32), error_db=40)
    first = kept(tmp_path / "k", (make_capture(0, 32),), Resolution(32, 32), noise)[0]
    assert (first.top, first.left, first.height, first.width) == (0, 0, 32, 32)
    assert first.tile_db == pytest.approx(40, abs=1)


def test_a_file_s_pictures_stay_below_the_stated_size(
    tmp_path: Path, make_capture: MakeCapture
) -> None:
    noise = noise_of((1, 3, SIDE_PX, SIDE_PX), error_db=20)
    found = kept(tmp_path / "k", (make_capture(0, SIDE_PX),), Resolution(SIDE_PX, SIDE_PX), noise)
    largest = max(sum(kept.bytes for kept in one.pictures.values()) for one in found)
    assert MOST * largest < 7e6


@pytest.fixture
def judged(
    tmp_path: Path,
    tiny_network: DFNet,
    make_capture_set: Callable[..., CaptureSet],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[Path, tuple[Exhibit, ...], bool]]:
    """``judged(padding=0)``: pictures, exhibits, and whether the checks were reused."""
    use_fake_runtime(monkeypatch)
    monkeypatch.setattr(FakeRuntime, "error_db", 130.0)
    captures = make_capture_set(Split.HELD_OUT, 2)
    request = Request(
        folder=tmp_path,
        log=tmp_path / "log",
        captures=captures,
        checkpoint=lambda: Checkpoint(tiny_network, CHECKPOINT_SHA256, {}),
        calibration=lambda: captures,
        threads=1,
    )

    def judge(padding: int = 0) -> tuple[Path, tuple[Exhibit, ...], bool]:
        artifact = write_artifact(tmp_path, tiny_network, padding=padding)
        (checked,) = check_all((artifact,), request, Progress())
        checks = read_checks(checks_path(request.results, artifact))
        assert checks is not None
        folder = pictures_folder(request.results, artifact.manifest)
        return folder, exhibits_of(checks.details), checked.reused

    return judge


def test_judging_keeps_pictures_and_lists_their_hashes(
    judged: Callable[..., tuple[Path, tuple[Exhibit, ...], bool]],
) -> None:
    folder, exhibits, _ = judged()
    assert exhibits
    assert exhibits[0].tile_y % TILE_PX == 0
    assert are_whole(folder, exhibits)
    assert folder.is_dir()
    listed = {kept.file for one in exhibits for kept in one.pictures.values()}
    assert listed == {path.name for path in folder.iterdir()}
    assert judged()[2]


def test_a_changed_file_has_pictures_of_its_own(
    judged: Callable[..., tuple[Path, tuple[Exhibit, ...], bool]],
) -> None:
    before, _, _ = judged()
    after, exhibits, reused = judged(padding=8)
    assert not reused
    assert before != after
    assert are_whole(after, exhibits)


@pytest.mark.parametrize("damage", ["missing", "another"])
def test_a_picture_that_is_gone_or_altered_is_told_and_made_again(
    judged: Callable[..., tuple[Path, tuple[Exhibit, ...], bool]], damage: str
) -> None:
    folder, exhibits, _ = judged()
    kept = exhibits[0].pictures["file"]
    if damage == "missing":
        (folder / kept.file).unlink()
    else:
        (folder / kept.file).write_bytes(b"another picture")
    said = read_kept(folder, kept)
    assert isinstance(said, str)
    assert kept.file in said
    assert not are_whole(folder, exhibits)
    assert not judged()[2]
    assert are_whole(folder, exhibits)


def test_exhibits_survive_json() -> None:
    exhibit = Exhibit("a", "b", "refocus", ("why",), 0, 0, 8, 8, 50.0, 0, 0, {})
    assert Exhibit.from_json(exhibit.to_json()) == exhibit
    assert Exhibit.from_json(replace(exhibit, capture="ü").to_json()).capture == "ü"
