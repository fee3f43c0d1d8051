"""Photos measured: memory of a process, time over the ideal, seams; and a capture to do it on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.photo import by_recipe, measure_memory, measure_times
from benchmarks.photo_capture import write_photo_capture
from benchmarks.photo_table import missed_bars, render_photos
from benchmarks.seams import measure_seams
from dfnet.artifact import Artifact
from dfnet.capture import Capture
from dfnet.console import Progress
from dfnet.errors import ArtifactError, CaptureError
from dfnet.model import DFNet, DFNetConfig
from dfnet.profiles import Resolution
from dfnet.reach import FACT
from dfnet.receptive_field import describe_receptive_field
from dfnet.signature import INPUTS, Feed
from export.photo.choice import choose
from export.photo.source import find_capture

from fake_artifacts import write_artifact
from fakes import FakeRuntime, use_fake_runtime

FRAME, TILE = Resolution(200, 232), Resolution(128, 144)


@pytest.fixture(scope="module")
def network() -> DFNet:
    return DFNet(DFNetConfig(width=2, multipliers=(1, 1, 1), blocks=(0, 0, 0))).eval()


@pytest.fixture
def at(network: DFNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Artifact]:
    """``at(resolution, **changes)``: an artifact of the fake runtime."""
    use_fake_runtime(monkeypatch)
    fact = describe_receptive_field(network)

    def make(resolution: Resolution, **changes: Any) -> Artifact:
        given = {"facts": {FACT: fact}, **changes}
        return write_artifact(tmp_path / "artifacts", network, resolution=resolution, **given)

    return make


@pytest.fixture
def feed() -> Feed:
    rng = np.random.default_rng(0)
    shape = (FRAME.height, FRAME.width)
    return {s.name: rng.random((1, s.channels, *shape), np.float32) for s in INPUTS}


def test_tiles_and_whole_frame_agree(at: Callable[..., Artifact], feed: Feed) -> None:
    seams = measure_seams(at(FRAME), at(TILE), feed, threads=1)
    assert (seams.frame, seams.tile) == (str(FRAME), str(TILE))
    assert seams.tiles > 3
    assert seams.difference <= 1e-5
    assert seams.levels <= 1


def test_a_halo_that_is_too_small_shows_as_a_seam(at: Callable[..., Artifact], feed: Feed) -> None:
    tiled = at(TILE)
    fact = tiled.manifest.facts[FACT]
    none = {"cut": 0, "before": 0, "after": 0}
    wrong = replace(
        tiled,
        manifest=replace(tiled.manifest, facts={FACT: {**fact, "rows": none, "columns": none}}),
    )
    assert measure_seams(at(FRAME), wrong, feed, threads=1).difference > 1e-4


def test_seams_of_two_networks_are_refused(at: Callable[..., Artifact], feed: Feed) -> None:
    with pytest.raises(ArtifactError, match="one network, runtime and recipe"):
        measure_seams(at(FRAME), at(TILE, checkpoint_sha256="d" * 64), feed, threads=1)


@pytest.fixture
def photo(captures: tuple[Capture, ...], tmp_path: Path) -> Path:
    folder = tmp_path / "photo"
    write_photo_capture(captures, "near", Resolution(200, 230), folder)
    return folder


def test_a_photo_capture_is_the_same_every_time(
    captures: tuple[Capture, ...], photo: Path, tmp_path: Path
) -> None:
    write_photo_capture(captures, "near", Resolution(200, 230), tmp_path / "again")
    one, other = find_capture(photo, None), find_capture(tmp_path / "again", "near")
    assert one.size == Resolution(200, 230)
    assert one.identity() == other.identity()
    with pytest.raises(CaptureError, match="exists"):
        write_photo_capture(captures, "near", FRAME, photo)
    with pytest.raises(CaptureError, match="Choose one of aif, near"):
        write_photo_capture(captures, "far", FRAME, tmp_path / "third")


def test_every_tile_is_timed_once_in_the_run(at: Callable[..., Artifact], photo: Path) -> None:
    capture = find_capture(photo, None)
    choice = choose([at(TILE)], capture.size, memory_mb=None)
    times = measure_times(choice, capture, threads=1, runs=2, progress=Progress())
    tiles = len(choice.plan.tiles)
    assert [len(repeat.samples_ms) for repeat in times.latency.repeats] == [tiles, tiles]
    medians = [np.median(repeat.samples_ms) * tiles / 1e3 for repeat in times.latency.repeats]
    assert times.ideal_s == pytest.approx(np.median(medians))
    assert times.ratio > 0


def test_a_run_that_fails_in_its_own_process_says_why(
    at: Callable[..., Artifact], photo: Path
) -> None:
    assert FakeRuntime.key == "fake"  # which the other process does not know
    with pytest.raises(ArtifactError, match="failed in its own process.*'fake' is unknown"):
        measure_memory(at(TILE), photo, None, threads=1)


def test_two_files_of_one_recipe_are_refused(at: Callable[..., Artifact]) -> None:
    with pytest.raises(ArtifactError, match="two of one recipe"):
        by_recipe([at(FRAME), at(TILE)])


ROW: dict[str, Any] = {
    "runtime": "litert",
    "backend": "xnnpack",
    "recipe": "int8",
    "precision": "w8a8",
    "photo": "3072x4080",
    "tile": "1168x856",
    "tiles": 18,
    "halo_ratio": 1.436,
    "peak_mb": 690.0,
    "tiles_s": 5.0,
    "run_ratio": 1.1,
    "run_validity": "VALID",
    "seams": {
        "frame": "1536x1024",
        "tile": "768x512",
        "tiles": 9,
        "difference": 3e-3,
        "levels": 1,
    },
}


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, []),
        ({"halo_ratio": 1.46}, ["halo ratio"]),
        ({"peak_mb": 701.0}, ["peak memory"]),
        ({"peak_mb": 701.0, "precision": "fp32"}, ["seams"]),
        ({"run_ratio": 1.2}, ["run time"]),
        ({"run_ratio": 1.2, "run_validity": "INVALID (busy)"}, []),
        ({"seams": {**ROW["seams"], "levels": 2}}, ["seams"]),
        ({"seams": None}, []),
    ],
)
def test_each_bar_can_be_missed(changes: dict[str, Any], missed: list[str]) -> None:
    row = {**ROW, **changes}
    assert missed_bars(row) == missed
    shown = render_photos([row]).splitlines()[-1]
    assert ("failed" in shown) == bool(missed)


def test_what_was_not_measured_is_not_called_passed() -> None:
    shown = render_photos([{**ROW, "run_validity": "INVALID (busy)", "seams": None}])
    assert "1.10 (INVALID)" in shown
    assert "passed; not run: run time, seams" in shown
