"""``python -m export.mil.record``, against a stand-in for Core ML, and its refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.mil.golden import Golden, Numbers
from export.mil.goldens import GOLDENS, find_goldens
from export.mil.recordings import (
    find_recordings,
    read_recordings,
)

pytest.importorskip("coremltools")

from export.mil.record import main
from export.mil.recorder import record_golden

from fake_coreml import FakeCoreML, command, pretend_core_ml, pretend_macos

pytestmark = pytest.mark.coreml


@pytest.fixture
def core_ml(monkeypatch: pytest.MonkeyPatch) -> type[FakeCoreML]:
    return pretend_core_ml(monkeypatch)


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., str]:
    """``run(code, *arguments)``: the command must end with that code; what it printed."""
    return command(main, monkeypatch, capfd, logs=tmp_path_factory.mktemp("logs"))


@pytest.mark.usefixtures("core_ml")
def test_the_command_records_and_records_again(run: Callable[..., str], tmp_path: Path) -> None:
    given = ("--output", str(tmp_path), "--golden", "gelu", "--golden", "picture-rounding")
    for _ in range(2):
        printed = run(0, *given)
        assert "gelu: all, cpu, cpu-and-gpu, cpu-and-neural-engine" in printed
        assert "2 goldens recorded" in printed
    (folder,) = find_recordings(tmp_path)
    assert folder.name == "apple-m2-macos-15.1"
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    found = read_recordings(folder)
    assert found.mac.chip == "Apple M2"
    assert found.mac.model == "Mac14,2"
    picture = next(r for r in found.recordings if r.golden == "picture-rounding")
    assert picture.outputs["cpu"]["rgb"].dtype == np.uint8


def test_each_unit_and_function_is_asked_for(core_ml: type[FakeCoreML], tmp_path: Path) -> None:
    record_golden(find_goldens(["function-named"])[0], tmp_path)
    units = ("ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE")
    assert core_ml.loaded == [(unit, "doubled") for unit in units]


@pytest.mark.usefixtures("core_ml")
def test_a_recording_that_fails_leaves_nothing(
    run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(package: Path) -> None:
        raise OSError(28, "No space left on device")

    broken = Golden("broken", "nothing", Numbers.FLOAT32, write, dict)
    monkeypatch.setattr("export.mil.goldens.GOLDENS", (GOLDENS[0], broken))
    assert "No space left" in run(2, "--output", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_off_macos_it_exits_2_with_one_sentence_and_writes_nothing(tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("this is macOS")
    command = [sys.executable, "-m", "export.mil.record", "--output", str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "Core ML recordings: got Linux, needs macOS. Run the same command on a Mac.\n"
    )
    assert not list(tmp_path.iterdir())


def test_an_old_macos_and_an_unknown_golden_are_refused(
    run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_macos(monkeypatch, "14.6")
    output = str(tmp_path / "new")
    assert "got macOS 14.6, needed 15 or newer" in run(2, "--output", output)
    assert "needed one of space-to-depth" in run(2, "--output", output, "--golden", "nonsense")
    assert not list(tmp_path.iterdir())
