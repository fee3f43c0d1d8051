"""Stands where coremltools reaches for Core ML, so that all of coremltools' own code runs.

``pretend_macos`` makes this machine call itself a Mac; ``pretend_core_ml`` also serves
``coremltools.models.model._MLModelProxy``, the one door to the framework, from the reference
evaluator.
"""

from __future__ import annotations

import platform
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import click
import pytest
import torch
from coremltools.models import compute_device, compute_plan
from PIL import Image

from dfnet.artifact import Artifact, read_artifact, sha256_of, write_manifest
from dfnet.console import run_command
from dfnet.manifest import TensorSpec
from dfnet.profiles import Resolution
from dfnet.signature import INPUTS, OUTPUT
from export.mil import Evaluator, Package
from export.mil.golden import eighths, program

from fake_artifacts import write_artifact

MILLISECOND_NS = 1_000_000
_ANSWERS = {
    "machdep.cpu.brand_string": "Apple M2",
    "hw.model": "Mac14,2",
    "JavaScript": "0 false",
    "batt": "Now drawing from 'AC Power'\n -InternalBattery-0 (id=1)\t93%; charging; 0:20 left",
}
"""What a Mac answers, by the last but telling word of the question."""


def pretend_macos(monkeypatch: pytest.MonkeyPatch, release: str = "15.1") -> None:
    def answer(command: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[str]:
        texts = [text for word, text in _ANSWERS.items() if word in command]
        return subprocess.CompletedProcess(command, 0 if texts else 1, "".join(texts), "")

    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "mac_ver", lambda: (release, ("", "", ""), "arm64"))
    monkeypatch.setattr("export.macos.subprocess.run", answer)


def pretend_core_ml(monkeypatch: pytest.MonkeyPatch, release: str = "15.1") -> type[FakeCoreML]:
    pretend_macos(monkeypatch, release)
    version = tuple(map(int, release.split(".")))
    monkeypatch.setattr("coremltools.models.model._MLModelProxy", FakeCoreML)
    monkeypatch.setattr("coremltools.models.compute_plan._MLModelProxy", FakeCoreML)
    monkeypatch.setattr("coremltools.models.model._macos_version", lambda: version)
    monkeypatch.setattr(FakeCoreML, "loaded", [])
    for changed in ("refuses", "fails", "newest", "devices", "structure"):
        monkeypatch.setattr(FakeCoreML, changed, getattr(FakeCoreML, changed))
    return FakeCoreML


class FakeCoreML:
    """One loaded model; what tests change stands in the class."""

    loaded: ClassVar[list[tuple[str, str]]] = []
    """Compute units and function of every model loaded so far."""
    refuses: ClassVar[tuple[str, ...]] = ()
    """Compute units that cannot load a model."""
    fails: ClassVar[bool] = False
    """Whether predictions fail."""
    newest: ClassVar[int] = 9
    devices: ClassVar[dict[str, str]] = {}
    """Operation type -> the device the plan prefers; the Neural Engine for all others."""
    structure: ClassVar[bool] = True
    """Whether compute plans are of ML programs."""

    def __init__(self, path: str, units: str, function: str, hints: object, asset: object) -> None:
        if units in self.refuses:
            raise RuntimeError("compiler says no")
        self.loaded.append((units, function))
        self._evaluator = Evaluator(Package(Path(path)), function=function or None)
        self._folder = tempfile.TemporaryDirectory()
        self._compiled = Path(self._folder.name) / "model.mlmodelc"
        self._compiled.mkdir()
        (self._compiled / "coremldata.bin").touch()
        (self._compiled / "source").write_text(path)
        self._predictions = 0

    @classmethod
    def maximum_supported_specification_version(cls) -> int:
        return cls.newest

    def predict(self, data: dict[str, Any], state: None) -> dict[str, Any]:
        if self.fails:
            raise RuntimeError("out of memory")
        self._predictions += 1
        outputs = self._evaluator.predict(data)
        # Core ML returns pictures with an alpha channel.
        return {
            n: v.convert("RGBA") if isinstance(v, Image.Image) else v for n, v in outputs.items()
        }

    def get_compiled_model_path(self) -> str:
        return str(self._compiled)

    def get_load_duration_in_nano_seconds(self) -> int:
        return 70 * MILLISECOND_NS

    def get_last_predict_duration_in_nano_seconds(self) -> int:
        return (20 if self._predictions == 1 else 2) * MILLISECOND_NS

    @classmethod
    def get_compute_plan(cls, path: str, units: str) -> FakePlan:
        source = Package(Path((Path(path) / "source").read_text()))
        return FakePlan(source, cls.devices, program=cls.structure)


class FakePlan:
    """A compute plan of coremltools' own types, of the program as it is saved."""

    def __init__(self, package: Package, devices: dict[str, str], *, program: bool) -> None:
        self._devices = devices
        operations = [
            compute_plan.MLModelStructureProgramOperation(
                inputs={},
                operator_name=o.type if o.type == "const" else f"ios17.{o.type}",
                outputs=[compute_plan.MLModelStructureProgramNamedValueType(o.name, _value_type())],
                blocks=[],
                __proxy__=None,
            )
            for o in package.function().body.operations
        ]
        block = compute_plan.MLModelStructureProgramBlock([], operations, [])
        main = compute_plan.MLModelStructureProgramFunction([], block)
        structure = compute_plan.MLModelStructureProgram({"main": main})
        self.model_structure = compute_plan.MLModelStructure(
            None, structure if program else None, None
        )

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        kind = operation.operator_name.rpartition(".")[2]
        wanted = self._devices.get(kind, "NeuralEngine")
        if kind == "const" or wanted == "none":
            return None
        supported = [_device("CPU"), _device("GPU"), _device(wanted)]
        return compute_plan.MLComputePlanDeviceUsage(_device(wanted), supported)

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> Any:
        return compute_plan.MLComputePlanCost(weight=0.25)


def _device(name: str) -> Any:
    """A device as coremltools makes them, without the proxy that only macOS has."""
    class_ = getattr(compute_device, f"ML{name}ComputeDevice")
    return class_.__new__(class_)


def _value_type() -> Any:
    return compute_plan.MLModelStructureProgramValueType()


SMALL_WEIGHTS = eighths(1, 3, 10, 1, 1)


def _small_network(mb: Any, **inputs: Any) -> Sequence[Any]:
    joined = mb.concat(values=list(inputs.values()), axis=1)
    mixed = mb.conv(x=joined, weight=SMALL_WEIGHTS, pad_type="valid")
    return (mb.relu(x=mixed, name=OUTPUT),)


def small_artifact(folder: Path) -> Artifact:
    """A 64x64 artifact in ``folder`` that is quick to build: instead of DFNet a 1x1 convolution of
    all inputs, and a ReLU."""
    shapes = {spec.name: (1, spec.channels, 64, 64) for spec in INPUTS}
    package = folder / "model.mlpackage"
    program(_small_network, shapes)(package)
    template = write_artifact(folder / "template", torch.nn.Identity(), runtime="coreml").manifest
    manifest = replace(
        template,
        backend="coreml",
        platform="ios",
        resolution=Resolution(64, 64),
        inputs=tuple(TensorSpec(n, shape, "float32", "NCHW") for n, shape in shapes.items()),
        outputs=(TensorSpec(OUTPUT, (1, 3, 64, 64), "float32", "NCHW"),),
        artifact_file=package.name,
        artifact_sha256=sha256_of(package),
    )
    write_manifest(folder, manifest)
    return read_artifact(folder)


def command(
    main: click.Command,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    *,
    logs: Path,
) -> Callable[..., str]:
    """``call(code, *arguments)``: ``main`` must end with that code; what it printed. ``logs`` takes
    what failures leave."""
    monkeypatch.setattr(tempfile, "tempdir", str(logs))
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # pytest keeps its own

    def call(code: int, *arguments: str) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run_command(main, arguments)
        printed = "".join(capfd.readouterr())
        assert stopped.value.code == code, printed
        return printed

    return call
