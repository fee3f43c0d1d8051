"""What needs macOS, against a stand-in for Core ML: running, placement, and refusals.

On a Mac the same stand-in is used; what Core ML itself does is not run here.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfnet.artifact import Artifact
from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.signature import INPUTS, OUTPUT, Feed
from export.macos import PowerState, chip, macos_version, power_state

ct = pytest.importorskip("coremltools")

from export.coreml import CoreML  # noqa: E402
from export.coreml_plan import PlacedOperation, read_placement  # noqa: E402
from export.coreml_runner import ComputeUnit, CoreMLRunner, load_model  # noqa: E402

from fake_coreml import (  # noqa: E402
    SMALL_WEIGHTS,
    FakeCoreML,
    pretend_core_ml,
    pretend_macos,
    small_artifact,
)

pytestmark = pytest.mark.coreml

UNITS = ("ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return small_artifact(tmp_path_factory.mktemp("artifact"))


@pytest.fixture
def core_ml(monkeypatch: pytest.MonkeyPatch) -> type[FakeCoreML]:
    return pretend_core_ml(monkeypatch)


@pytest.mark.parametrize("unit", ComputeUnit)
def test_every_unit_runs(
    unit: ComputeUnit, artifact: Artifact, core_ml: type[FakeCoreML], feed: Feed
) -> None:
    with CoreMLRunner(artifact, unit) as runner:
        output = runner.infer(feed)[OUTPUT]
        timings = runner.time(feed, warmup=0, runs=2)
        with pytest.raises(UnsupportedError, match="got inputs of 32x32, needed 64x64"):
            runner.infer({name: array[..., :32, :32] for name, array in feed.items()})
    joined = np.concatenate([feed[spec.name] for spec in INPUTS], axis=1)
    mixed = np.einsum("oi,nihw->nohw", SMALL_WEIGHTS[..., 0, 0], joined)
    np.testing.assert_allclose(output, np.maximum(mixed, 0), atol=1e-5)
    assert output.dtype == np.float32
    assert runner.device.kind == "host"
    assert runner.device.name == f"Core ML {unit}, macOS 15.1, Apple M2"
    assert len(timings.samples_ms) == 2
    assert core_ml.loaded == [(UNITS[list(ComputeUnit).index(unit)], "")]
    assert timings.accelerator == f"Core ML {unit}: Neural Engine 3 operations"


@pytest.mark.usefixtures("core_ml")
def test_executions_are_the_evaluator_and_every_unit(artifact: Artifact, feed: Feed) -> None:
    openers = CoreML().executions(artifact, threads=1)
    names = []
    for opener in openers:
        with opener() as runner:
            runner.infer(feed)
            names.append((runner.device.kind, runner.device.name.partition(",")[0]))
    assert [kind for kind, _ in names] == ["evaluator", "host", "host", "host", "host"]
    assert [name for _, name in names[1:]] == [f"Core ML {unit}" for unit in ComputeUnit]
    with CoreML().open(artifact, threads=1) as runner:
        assert runner.device.name.startswith("Core ML all")


def test_a_package_core_ml_refuses_is_an_error(
    artifact: Artifact, core_ml: type[FakeCoreML], monkeypatch: pytest.MonkeyPatch, feed: Feed
) -> None:
    with CoreMLRunner(artifact, ComputeUnit.ALL) as runner:
        monkeypatch.setattr(core_ml, "fails", True)
        with pytest.raises(ArtifactError, match="out of memory"):
            runner.infer(feed)
    monkeypatch.setattr(core_ml, "refuses", ("ALL",))
    with pytest.raises(ArtifactError, match="compiler says no"):
        CoreMLRunner(artifact, ComputeUnit.ALL)
    monkeypatch.setattr(core_ml, "newest", 7)
    with pytest.raises(ArtifactError, match="got specification 8, which this macOS cannot load"):
        CoreMLRunner(artifact, ComputeUnit.CPU)


@pytest.fixture
def compiled(artifact: Artifact, core_ml: type[FakeCoreML]) -> tuple[Any, Path]:
    """A loaded model, to be kept alive, and its compiled folder."""
    model = load_model(artifact.path, ComputeUnit.ALL)
    return model, Path(model.get_compiled_model_path())


def test_placement_counts_operations_and_names_those_off_the_neural_engine(
    compiled: tuple[Any, Path], core_ml: type[FakeCoreML], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_ml, "devices", {"conv": "GPU", "relu": "none"})
    placement = read_placement(compiled[1], ct.ComputeUnit.ALL)
    assert placement.counts == {"Neural Engine": 1, "GPU": 1, "unknown": 1}
    assert placement.operators["GPU"] == {"conv": 1}
    assert placement.costs == {"Neural Engine": 0.25, "GPU": 0.25, "unknown": 0.25}
    conv, relu = placement.off_neural_engine
    assert conv.type == "conv"
    assert conv.supported == ("CPU", "GPU", "GPU")
    assert relu == PlacedOperation(OUTPUT, "relu", "unknown", (), 0.25)
    assert placement.summary == "Neural Engine 1, GPU 1, unknown 1 operations"
    assert placement.to_json()["off_neural_engine"][0]["preferred"] == "GPU"


def test_what_has_no_plan_says_why(
    compiled: tuple[Any, Path],
    core_ml: type[FakeCoreML],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # Given a package, Core ML would end the process (coremltools issue 2757).
    with pytest.raises(ArtifactError, match="needed a compiled model"):
        read_placement(tmp_path, ct.ComputeUnit.ALL)
    monkeypatch.setattr(core_ml, "structure", False)
    with pytest.raises(ArtifactError, match="no ML program with the function 'main'"):
        read_placement(compiled[1], ct.ComputeUnit.ALL)

    def unavailable(path: str, units: str) -> None:
        raise RuntimeError("MLComputePlan is only available on macOS >= 14.4")

    monkeypatch.setattr(core_ml, "get_compute_plan", unavailable)
    with pytest.raises(UnsupportedError, match="only available on macOS >= 14.4"):
        read_placement(compiled[1], ct.ComputeUnit.ALL)
    pretend_macos(monkeypatch, "14.3")
    with pytest.raises(UnsupportedError, match="got macOS 14.3, needs macOS 14.4"):
        read_placement(compiled[1], ct.ComputeUnit.ALL)


def test_timings_say_when_the_placement_is_unknown(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, feed: Feed
) -> None:
    pretend_core_ml(monkeypatch, "14.2")
    with CoreMLRunner(artifact, ComputeUnit.CPU) as runner:
        accelerator = runner.time(feed, warmup=0, runs=1).accelerator
    assert accelerator.startswith("Core ML cpu: placement unknown (Core ML compute plan: got")


def test_a_mac_s_state_is_read_and_what_it_does_not_say_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend_macos(monkeypatch, "14")
    assert macos_version() == (14, 0)
    assert chip() == "Apple M2"
    assert power_state() == PowerState("nominal", False, 93.0, True)

    def silent(*_: object, **__: object) -> None:
        raise FileNotFoundError("no such program")

    monkeypatch.setattr("export.macos.subprocess.run", silent)
    assert chip() is None
    assert power_state() == PowerState(None, None, None, None)


@pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML runs here")
def test_off_macos_everything_says_why_it_cannot_run(artifact: Artifact, tmp_path: Path) -> None:
    assert CoreML().cannot_run(artifact) == "needs macOS"
    for opener in CoreML().executions(artifact, threads=1):
        with opener() as runner:
            assert runner.device.kind == "evaluator"
    with pytest.raises(UnsupportedError, match="needs macOS"):
        CoreML().open(artifact, threads=1)
    with pytest.raises(UnsupportedError, match="needs macOS"):
        read_placement(tmp_path, ct.ComputeUnit.ALL)
    assert chip() is None
    assert macos_version() == (0, 0)


def test_an_old_macos_is_refused(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_macos(monkeypatch, "13.6")
    assert CoreML().cannot_run(artifact) == "needs macOS 14 or newer, this is 13.6"
