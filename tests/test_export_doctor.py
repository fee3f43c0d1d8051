"""``python -m export doctor``: what it finds, and what it says where something is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from export import doctor
from export.doctor import find_abilities, find_things
from export.variants import RUNTIMES

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything required is there, whatever this machine has."""
    monkeypatch.setattr(doctor, "_version", lambda name: "1.2.3")
    monkeypatch.setattr(doctor, "_are_whole", lambda root: True)
    monkeypatch.setattr(doctor, "_SYSTEM", "Linux")


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in names else "1.2.3")


def found(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = doctor.doctor(as_json=True)
    return code, json.loads(capsys.readouterr().out)


def test_all_that_is_required_is_enough(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    code, data = found(capsys)
    assert (code, data["ready"]) == (0, True)
    qemu = next(one for one in data["things"] if one["name"] == "qemu-system-aarch64")
    assert qemu["found"] is None
    assert qemu["install"] == "sudo apt-get install --no-install-recommends qemu-system-arm"


@pytest.mark.parametrize(
    "name", ["coremltools", "executorch", "torch", "pytest"], ids="no {}".format
)
def test_a_missing_package_of_the_main_job_exits_1_with_the_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    without(monkeypatch, name)
    code, data = found(capsys)
    assert (code, data["ready"]) == (1, False)
    (line,) = [one["install"] for one in data["things"] if one["name"] == name]
    assert f"-m pip install {name}==" in line, "the version that requirements.lock pins"


def test_another_runtimes_package_is_missing_without_harm(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "onnxsim")
    code, data = found(capsys)
    assert code == 0
    onnx = next(one for one in data["runtimes"] if one["runtime"] == "onnx")
    assert onnx["build"] == "no (onnxsim is missing)"


def test_captures_that_are_not_derived_yet_exit_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_are_whole", lambda root: False)
    code, data = found(capsys)
    assert code == 1
    assert next(one["install"] for one in data["things"] if one["found"] is None) == "make setup"


@pytest.mark.parametrize(
    ("system", "run", "latency"),
    [
        ("Linux", "by the reference evaluator", "no (needs macOS)"),
        ("macOS", "yes", "yes, of this host"),
    ],
)
def test_core_ml_runs_on_macos_alone(
    monkeypatch: pytest.MonkeyPatch, system: str, run: str, latency: str
) -> None:
    monkeypatch.setattr(doctor, "_SYSTEM", system)
    core_ml = next(one for one in find_abilities() if one.runtime == "coreml")
    assert (core_ml.build, core_ml.run, core_ml.latency) == ("yes", run, latency)


def test_every_runtime_and_package_is_told() -> None:
    assert {one.runtime for one in find_abilities()} == set(RUNTIMES)
    packages = {name for row in RUNTIMES.values() for name in row.distributions}
    assert packages <= {thing.name for thing in find_things()}


def test_the_table_is_readable_and_marks_what_is_needed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "coremltools")
    assert doctor.doctor(as_json=False) == 1
    out = capsys.readouterr().out
    assert "needed" in out
    assert "cannot run here yet" in out


def test_as_a_command_without_loading_torch_or_an_sdk() -> None:
    script = (
        "import sys, runpy\n"
        "sys.argv = ['export', 'doctor', '--json']\n"
        "try:\n    runpy.run_module('export', run_name='__main__')\n"
        "except SystemExit as stopped:\n"
        "    heavy = {'torch', 'coremltools', 'executorch', 'litert_torch', 'onnx'}\n"
        "    sys.exit(3 if heavy & sys.modules.keys() else stopped.code or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    data = json.loads(done.stdout)
    assert done.returncode == (0 if data["ready"] else 1), done.stderr
