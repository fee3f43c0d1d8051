"""``python -m export.coreml_measure``, against a stand-in for Core ML, and its refusals."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.device_results import read_device_latency
from dfnet.artifact import Artifact

from fake_artifacts import write_artifact

ct = pytest.importorskip("coremltools")

from export.coreml_measure import main  # noqa: E402

from fake_coreml import FakeCoreML, command, pretend_core_ml, small_artifact  # noqa: E402

pytestmark = pytest.mark.coreml


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return small_artifact(tmp_path_factory.mktemp("artifact"))


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


def test_a_measurement_is_a_result_of_the_device_protocol(
    artifact: Artifact, core_ml: type[FakeCoreML], run: Callable[..., str], tmp_path: Path
) -> None:
    output = tmp_path / "result.json"
    printed = run(0, str(artifact.folder), "--output", str(output), "--runs", "50")
    assert "2.00 ms on neural_engine" in printed
    found = read_device_latency(output)
    facts = found.facts
    assert found.artifact_sha256 == artifact.manifest.artifact_sha256
    assert (facts.device.kind, facts.device.name, facts.device.model) == (
        "host",
        "Mac (Apple M2)",
        "Mac14,2",
    )
    assert (facts.device.os, facts.device.os_version, facts.device.soc) == (
        "macOS",
        "15.1",
        "Apple M2",
    )
    assert found.accelerator.asked == ("cpu", "gpu", "neural_engine")
    assert found.accelerator.ran == ("neural_engine",)
    assert found.accelerator.evidence == "plan"
    assert found.accelerator.placement == {"neural_engine": {"concat": 1, "conv": 1, "relu": 1}}
    assert len(found.repeats) == 3
    first = found.repeats[0]
    assert (first.load_ms, first.first_ms) == (70.0, 20.0)
    assert first.warmup_ms == (2.0,) * 5
    # 50 runs are 100 ms, so it went on until there was a second of them.
    assert first.samples_ms == (2.0,) * 500
    assert (first.thermal_before, first.thermal_after) == ("nominal", "nominal")
    assert (first.battery_percent, first.charging, first.low_power_mode) == (93.0, True, False)
    assert found.latency.validity == "VALID"
    assert core_ml.loaded[0] == ("ALL", "")


@pytest.mark.parametrize(
    ("unit", "asked"),
    [
        ("cpu", ["cpu"]),
        ("cpu-and-gpu", ["cpu", "gpu"]),
        ("cpu-and-neural-engine", ["cpu", "neural_engine"]),
    ],
)
def test_a_unit_is_asked_for_and_the_plan_says_what_ran(
    unit: str,
    asked: list[str],
    artifact: Artifact,
    core_ml: type[FakeCoreML],
    run: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core_ml, "devices", {"conv": "CPU", "concat": "CPU", "relu": "none"})
    output = tmp_path / "result.json"
    run(0, str(artifact.folder), "--unit", unit, "--output", str(output), *_quick())
    result = json.loads(output.read_text())
    assert result["accelerator"]["asked"] == asked
    assert result["accelerator"]["ran"] == ["cpu"]
    assert result["doubts"] == ["1 operations without a known device"]
    found = read_device_latency(output)
    assert any("without a known device" in why for why in found.latency.disturbances)


def _quick() -> tuple[str, ...]:
    return ("--repeats", "1", "--warmups", "0", "--runs", "2", "--seconds", "0")


def test_without_a_plan_only_the_cpu_can_be_named(
    artifact: Artifact, run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_core_ml(monkeypatch, "14.2")
    output = tmp_path / "result.json"
    given = (str(artifact.folder), "--output", str(output), *_quick())
    assert "got macOS 14.2, needs macOS 14.4" in run(2, *given)
    assert not output.exists()
    run(0, *given, "--unit", "cpu")
    accelerator = read_device_latency(output).accelerator
    assert (accelerator.ran, accelerator.evidence) == (("cpu",), "only choice")
    assert accelerator.placement is None


@pytest.mark.usefixtures("core_ml")
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("unit", "Compute unit: got 'tpu', needed one of all, cpu, cpu-and-gpu,"),
        ("runtime", "got the runtime fake, needed coreml"),
        ("missing", "needed the JSON written by export"),
        ("refused", "compiler says no"),
        ("output", "cannot be written"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence_and_leaves_nothing(
    fault: str,
    sentence: str,
    artifact: Artifact,
    run: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, output, unit = artifact.folder, tmp_path / "result.json", "all"
    if fault == "unit":
        unit = "tpu"
    elif fault == "runtime":
        folder = write_artifact(tmp_path / "other", torch.nn.Identity()).folder
    elif fault == "missing":
        folder = tmp_path / "nowhere"
    elif fault == "refused":
        monkeypatch.setattr(FakeCoreML, "refuses", ("ALL",))
    else:
        output.mkdir()
    printed = run(2, str(folder), "--unit", unit, "--output", str(output), *_quick())
    assert sentence in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.glob("*.part"))
    assert not output.is_file()


@pytest.mark.skipif(platform.system() == "Darwin", reason="this is macOS")
def test_off_macos_the_command_exits_2_with_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "export.coreml_measure", "none", "--output"]
    done = subprocess.run(
        [*command, str(tmp_path / "r.json")],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "Core ML timing: got Linux, needs macOS. Run the same command on a Mac.\n"
    )
    assert not list(tmp_path.iterdir())
