from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from dfnet.__main__ import main
from dfnet.artifact import Artifact
from dfnet.capture import Capture, Split
from dfnet.captureset import CaptureSet
from dfnet.console import run_command
from dfnet.defocus import depth_of_field, refocus_at_pixel
from dfnet.errors import CaptureError, UnsupportedError
from dfnet.framing import crop_to, pad_to
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from dfnet.torch_runner import TorchRunner
from dfnet.wish import Wish

from fake_artifacts import write_artifact
from fakes import use_fake_runtime

MakeSet = Callable[..., CaptureSet]


@pytest.fixture
def artifact(tmp_path: Path, tiny_network: DFNet, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    use_fake_runtime(monkeypatch)
    return write_artifact(tmp_path / "out", tiny_network)


@pytest.fixture
def capture_folder(make_capture_set: MakeSet) -> Path:
    captures = make_capture_set(Split.HELD_OUT, 2)
    return captures.root / captures.ids[0]


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as exit_info:
        run_command(main, list(map(str, arguments)))
    assert isinstance(exit_info.value.code, int)
    return exit_info.value.code


def test_a_file_refocuses_a_capture(
    artifact: Artifact,
    capture_folder: Path,
    tiny_network: DFNet,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from dfnet.refocus_command import find_capture

    output = tmp_path / "new" / "out.png"
    common = ("--artifact", artifact.path, "--capture", capture_folder, "--output", output)
    assert run("refocus", *common, "--target", "aif", "--json") == 0
    told = json.loads(capfd.readouterr().out)
    assert told["artifact_sha256"] == artifact.manifest.artifact_sha256
    assert told["resolution"] == "64x64"
    assert told["psnr_db"] > 0
    capture = find_capture(capture_folder)
    expected = TorchRunner(tiny_network).infer(capture.feed(capture.targets[0]))["refocused"]
    got = np.asarray(Pillow.open(output), np.float32) / 255
    assert np.abs(got - expected.clip(0, 1)[0].transpose(1, 2, 0)).max() <= 0.51 / 255
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to do"),
        (("--target", "all-in-focus", "--focus-at", "3,3"), "each says what is sharp"),
        (("--target", "all-in-focus", "--f-stop", "2"), "has its own blur"),
        (("--tilt-shift", "3,3", "--focus-at", "3,3"), "each says what is sharp"),
        (("--focus-at", "here"), "two numbers"),
        (("--focus-at", "64,3"), "Choose a pixel"),
        (("--tilt-shift", "64,3"), "Choose one of them"),
        (("--f-stop", "nan"), "0.5 to 64"),
        (("--target", "blurry"), "aif, near"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    artifact: Artifact,
    capture_folder: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out.png"
    common = ("--artifact", artifact.folder, "--capture", capture_folder, "--output", output)
    assert run("refocus", *common, *arguments) == 2
    said = capfd.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert not output.exists()


def test_wrong_files_say_what_to_do(
    artifact: Artifact, capture_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def code(artifact: Path, capture: Path, output: str = "out.png") -> int:
        common = ("--artifact", artifact, "--capture", capture, "--output", tmp_path / output)
        return run("refocus", *common, "--f-stop", "4")

    assert code(tmp_path / "none", capture_folder) == 2
    assert "make export-android" in capfd.readouterr().err
    assert code(artifact.folder, capture_folder.parent) == 2
    assert capture_folder.name in capfd.readouterr().err
    assert code(artifact.folder, capture_folder, "out.gif") == 2
    assert ".png" in capfd.readouterr().err
    artifact.path.write_bytes(b"!")
    assert code(artifact.folder, capture_folder) == 2
    assert "changed after export" in capfd.readouterr().err


def test_focus_and_f_stop_combine(make_capture: Callable[..., Capture]) -> None:
    capture = make_capture(0)
    wide_open = Wish(focus_at=(5, 9)).target_of(capture)
    assert np.array_equal(wide_open.defocus, refocus_at_pixel(capture, 5, 9).defocus)
    stopped = Wish(focus_at=(5, 9), f_stop=3.7).target_of(capture)
    np.testing.assert_allclose(stopped.defocus, wide_open.defocus / 2, atol=1e-6)
    deeper = Wish(f_stop=3.7).target_of(capture)
    assert np.array_equal(deeper.defocus, depth_of_field(capture, 2).defocus)
    assert np.array_equal(Wish(f_stop=1.85).target_of(capture).defocus, capture.defocus_wide)


def test_tilt_shift_is_sharp_in_its_band(make_capture: Callable[..., Capture]) -> None:
    target = Wish(tilt_shift=(10, 4)).target_of(make_capture(0))
    assert not target.defocus[:, :, 6:15].any()
    assert (target.defocus[:, :, 20:] > 0).all()
    with pytest.raises(CaptureError, match="row"):
        Wish(tilt_shift=(-1, 4)).target_of(make_capture(0))


def test_a_smaller_capture_is_mirrored_and_cut_out_again(
    make_capture: Callable[..., Capture],
) -> None:
    capture = make_capture(0)
    feed = capture.feed(capture.targets[0])
    framed = pad_to(feed, Resolution(200, 72))
    assert {image.shape[2:] for image in framed.values()} == {(200, 72)}
    for name, image in feed.items():
        assert np.array_equal(crop_to(framed[name], Resolution(64, 64)), image)
        assert np.array_equal(framed[name][:, :, 64], framed[name][:, :, 63])
    with pytest.raises(UnsupportedError, match=r"export\.photo"):
        pad_to(feed, Resolution(64, 56))


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, dfnet.__main__; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_other_commands_are_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("stereo", "--help") == 0
    assert "measured depth" in capfd.readouterr().out
