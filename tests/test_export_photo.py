"""Photos in tiles: the whole frame's picture, from any artifact, and after any interruption."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow

from dfnet.artifact import Artifact
from dfnet.capture import Image
from dfnet.console import run_command
from dfnet.manifest import EntryPoint
from dfnet.model import DFNet, DFNetConfig
from dfnet.profiles import Resolution
from dfnet.reach import FACT
from dfnet.receptive_field import describe_receptive_field
from dfnet.runner import Output
from dfnet.signature import INPUTS, OUTPUT, Feed
from dfnet.torch_runner import TorchRunner
from export.photo import memory
from export.photo.__main__ import main
from export.photo.choice import choose

from fake_artifacts import write_artifact
from fakes import FakeRunner, FakeRuntime, use_fake_runtime

TILE, PHOTO = Resolution(128, 144), Resolution(197, 230)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def network() -> DFNet:
    return DFNet(DFNetConfig(width=2, multipliers=(1, 1, 1), blocks=(0, 0, 0))).eval()


@pytest.fixture(scope="module")
def fact(network: DFNet) -> dict[str, Any]:
    return describe_receptive_field(network)


@pytest.fixture
def artifact(network: DFNet, fact: dict[str, Any], tmp_path: Path) -> Artifact:
    return write_artifact(tmp_path / "artifacts", network, resolution=TILE, facts={FACT: fact})


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    folder = tmp_path / "capture"
    write_capture(folder, seed=0)
    return folder


def write_capture(folder: Path, *, seed: int, size: Resolution = PHOTO) -> None:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for spec in INPUTS:
        name = "target-sharp" if spec.name == "defocus_target" else spec.name
        shape = (size.height, size.width, 3) if spec.channels == 3 else (size.height, size.width)
        Pillow.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / f"{name}.png")


def pixels_of(path: Path) -> npt.NDArray[np.uint8]:
    with Pillow.open(path) as picture:
        return np.asarray(picture)


def whole_frame(network: DFNet, capture: Path) -> npt.NDArray[np.uint8]:
    """The network's picture of the photo with its edges repeated to multiples of 8."""
    feed: dict[str, Image] = {}
    for spec in INPUTS:
        name = "target-sharp" if spec.name == "defocus_target" else spec.name
        pixels = pixels_of(capture / f"{name}.png").reshape(PHOTO.height, PHOTO.width, -1)
        pixels = np.pad(pixels, ((0, -PHOTO.height % 8), (0, -PHOTO.width % 8), (0, 0)), "edge")
        feed[spec.name] = (pixels.transpose(2, 0, 1)[None] / np.float32(255)).astype(np.float32)
    picture = TorchRunner(network).infer(feed)[OUTPUT][0, :, : PHOTO.height, : PHOTO.width]
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8).transpose(1, 2, 0)


@pytest.fixture
def run(
    artifact: Artifact,
    capture: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """``run(*more, **changes)``: the good command line -> (exit code, stdout, stderr)."""
    use_fake_runtime(monkeypatch)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # pytest keeps its own

    def call(*more: str, **changes: Path) -> tuple[int, str, str]:
        good = {
            "artifact": artifact.folder,
            "capture": capture,
            "output": tmp_path / "photo.png",
            **changes,
        }
        capfd.readouterr()
        arguments = [part for name, value in good.items() for part in (f"--{name}", str(value))]
        with pytest.raises(SystemExit) as stopped:
            run_command(main, [*arguments, *more])
        assert isinstance(stopped.value.code, int)
        return (stopped.value.code, *capfd.readouterr())

    return call


def test_tiles_give_the_whole_frames_picture(
    run: Run, network: DFNet, capture: Path, tmp_path: Path
) -> None:
    code, out, err = run("--json")
    result = json.loads(out)
    assert code == 0
    assert (result["photo"], result["tile"]) == (str(PHOTO), str(TILE))
    assert result["tiles"] == err.count("] Tile ") > 3
    got, needed = pixels_of(tmp_path / "photo.png"), whole_frame(network, capture)
    assert np.abs(got.astype(int) - needed).max() <= 1  # rounding of values next to .5
    assert (got == needed).mean() > 0.999
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifacts", "capture", "photo.png"]


def test_the_photos_own_resolution_is_taken_whole(
    run: Run, network: DFNet, fact: dict[str, Any], capture: Path, tmp_path: Path
) -> None:
    own = Resolution(200, 232)
    whole = write_artifact(tmp_path / "own", network, resolution=own, facts={FACT: fact})
    code, out, err = run("--artifact", str(whole.folder), "--json")
    assert code == 0
    assert "whole frame" in err
    assert json.loads(out)["tiles"] == 1
    np.testing.assert_array_equal(pixels_of(tmp_path / "photo.png"), whole_frame(network, capture))


def test_a_budget_takes_the_file_that_fits_it(
    run: Run,
    network: DFNet,
    fact: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = write_artifact(
        tmp_path / "own", network, resolution=Resolution(200, 232), facts={FACT: fact}
    )
    monkeypatch.setattr(memory, "_UNKNOWN", memory.Need(5000, 1e5))
    both = ("--artifact", str(whole.folder), "--json")
    code, out, _ = run(*both, "--memory-mb", "9000")
    assert (code, json.loads(out)["tile"]) == (0, str(TILE))
    code, _, err = run(*both, "--memory-mb", "5000")
    assert code == 2
    assert f"needed about 6843 for tiles of {TILE}" in err


def test_a_bundle_offers_each_of_its_resolutions(artifact: Artifact) -> None:
    larger = Resolution(200, 232)
    points = tuple(EntryPoint(str(one), one, (), (), None) for one in (TILE, larger))
    manifest = replace(artifact.manifest, entry=str(TILE), entry_points=points)
    choice = choose([replace(artifact, manifest=manifest)], PHOTO, memory_mb=None)
    assert choice.plan.whole_frame
    assert choice.artifact.manifest.entry == str(larger)


def test_more_memory_than_the_budget_exits_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_UNKNOWN", memory.Need(1, 1))
    code, out, _ = run("--memory-mb", "2")
    assert code == 1
    assert "of 2 MB" in out


class Interrupted(FakeRunner):
    """Stops after ``left`` inferences."""

    left = 2

    def infer(self, feed: Feed) -> Output:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().infer(feed)


def test_a_run_goes_on_where_it_was_interrupted_and_only_for_the_same_capture(
    run: Run, network: DFNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run("--json", output=tmp_path / "needed.png")
    tiles = json.loads(out)["tiles"]
    with monkeypatch.context() as patch:
        patch.setattr(FakeRuntime, "open", lambda *_, threads: Interrupted(network))
        assert run()[0] == 130
    assert not (tmp_path / "photo.png").exists()

    write_capture(tmp_path / "other", seed=1)
    _, out, _ = run("--json", capture=tmp_path / "other")
    assert json.loads(out)["resumed"] == 0

    code, out, err = run("--json")
    assert (code, json.loads(out)["resumed"]) == (0, 2)
    assert f"Going on: 2 of {tiles} tiles are done." in err
    assert (tmp_path / "photo.png").read_bytes() == (tmp_path / "needed.png").read_bytes()


_KILLED = """
import os, signal, sys
from pathlib import Path
from fakes import FakeRunner
from dfnet.artifact import read_artifact
from dfnet.console import Progress
from export.photo.choice import choose
from export.photo.process import refocus_photo
from export.photo.source import find_capture
import torch

class Killed(FakeRunner):
    left = 3
    def infer(self, feed):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().infer(feed)

artifact, capture = read_artifact(Path(sys.argv[1])), find_capture(Path(sys.argv[2]), None)
network = torch.load(artifact.path, weights_only=False)
choice = choose([artifact], capture.size, memory_mb=None)
refocus_photo(choice, capture, Path(sys.argv[3]), lambda: Killed(network), Progress())
"""


def test_a_killed_run_goes_on(run: Run, artifact: Artifact, capture: Path, tmp_path: Path) -> None:
    output = tmp_path / "photo.png"
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, artifact.folder, capture, output],
        env={**os.environ, "PYTHONPATH": f".{os.pathsep}tests"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    code, out, _ = run("--json")
    assert code == 0
    # The third tile was being written when the fourth began.
    assert json.loads(out)["resumed"] in (2, 3)
    run(output=tmp_path / "needed.png")
    assert output.read_bytes() == (tmp_path / "needed.png").read_bytes()


def test_another_artifact_never_goes_on_from_it(
    run: Run, network: DFNet, fact: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FakeRuntime, "open", lambda *_, threads: Interrupted(network))
        assert run()[0] == 130
    other = write_artifact(tmp_path / "b", network, resolution=TILE, facts={FACT: fact}, padding=1)
    _, out, _ = run("--json", artifact=other.folder)
    assert json.loads(out)["resumed"] == 0


def test_values_that_are_not_finite_are_an_error(
    run: Run, network: DFNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(FakeRunner):
        def infer(self, feed: Feed) -> Output:
            return {OUTPUT: super().infer(feed)[OUTPUT] * np.float32("nan")}

    monkeypatch.setattr(FakeRuntime, "open", lambda *_, threads: Broken(network))
    code, _, err = run()
    assert code == 2
    assert "not finite at row 0, column 0" in err
    assert not (tmp_path / "photo.png").exists()


def damage_size(capture: Path) -> None:
    Pillow.new("L", (9, 9)).save(capture / "occlusion.png")


def damage_mode(capture: Path) -> None:
    Pillow.new("L", (PHOTO.width, PHOTO.height)).save(capture / "wide.png")


def add_target(capture: Path) -> None:
    Pillow.new("L", (PHOTO.width, PHOTO.height)).save(capture / "target-near.png")


@pytest.mark.parametrize(
    ("damage", "more", "message"),
    [
        (lambda c: (c / "wide.png").unlink(), (), "wide.png is missing"),
        (lambda c: (c / "wide.png").write_bytes(b"x"), (), "cannot be read as PNG"),
        (lambda c: (c / "target-sharp.png").unlink(), (), "got 0 target maps"),
        (damage_size, (), "got 9x9 pixels, needed 197x230"),
        (damage_mode, (), "got L pixels, needed RGB"),
        (add_target, (), r"got 2 target maps (near, sharp), needed one"),
        (lambda c: None, ("--target", "far"), "Choose --target from sharp"),
    ],
)
def test_a_capture_that_cannot_be_used_is_one_sentence(
    run: Run,
    capture: Path,
    damage: Callable[[Path], object],
    more: tuple[str, ...],
    message: str,
) -> None:
    damage(capture)
    code, _, err = run(*more)
    assert code == 2
    assert message in err


def test_artifacts_that_cannot_serve_are_refused(
    run: Run, network: DFNet, fact: dict[str, Any], capture: Path, tmp_path: Path
) -> None:
    stateless = write_artifact(tmp_path / "a", network, resolution=TILE)
    code, _, err = run(artifact=stateless.folder)
    assert code == 2
    assert "without facts.receptive_field" in err

    foreign = write_artifact(
        tmp_path / "b",
        network,
        resolution=Resolution(136, 144),
        facts={FACT: fact},
        checkpoint_sha256="d" * 64,
    )
    code, _, err = run("--artifact", str(foreign.folder))
    assert code == 2
    assert "of different networks, runtimes or recipes" in err

    code, _, err = run(output=tmp_path / "photo.jpg")
    assert code == 2
    assert "ends in .png" in err


@pytest.mark.litert
def test_a_litert_photo_does_not_load_torch() -> None:
    code = "import sys, export.photo.command, export.litert_runner; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "False"
