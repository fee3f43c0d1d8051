"""A runtime and a runner that go wrong by a chosen amount.

``use_fake_runtime(monkeypatch)`` adds ``fake`` to the table of runtimes. Its files hold a pickled
module, and running one adds noise of exactly ``error_db``, so that a test knows what a comparison
must report.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from types import TracebackType
from typing import ClassVar, Self

import numpy as np
import pytest
import torch
from torch import nn

from dfnet.artifact import Artifact
from dfnet.captureset import CaptureSet
from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.manifest import Delegation, TensorSpec
from dfnet.profiles import Resolution
from dfnet.runner import Device, Output, Timings
from dfnet.signature import INPUTS, OUTPUT, Feed
from dfnet.torch_runner import TorchRunner
from export.runtime import Lowered, Runtime
from export.variants import RUNTIMES, RuntimeRow, Variant
from quantize.program import Calibration
from quantize.recipe import Recipe

EXACT = float("inf")
"""An error in dB that changes nothing."""

FAKE_ROW = RuntimeRow(
    "fakes:FakeRuntime",
    ("pytest",),
    (
        Variant("android", "cpu", "fp32"),
        Variant("android", "cpu", "int8"),
        Variant("android", "cpu", "int8-full", on_request=True),
        Variant("ios", "cpu", "fp32"),
    ),
)


class FakeRunner:
    """Runs ``network`` in torch and adds noise of ``error_db`` (PSNR at peak 1.0)."""

    def __init__(
        self,
        network: nn.Module,
        *,
        error_db: float = EXACT,
        size: Resolution | None = None,
        samples_ms: tuple[float, ...] = (2.0, 1.0, 3.0),
        device: Device | None = None,
    ) -> None:
        self._torch = TorchRunner(network)
        self._error_db = error_db
        self._size = size
        self._samples_ms = samples_ms
        self.device = device or Device("host", "fake")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def infer(self, feed: Feed) -> Output:
        if self._size and feed["wide"].shape[2:] != (self._size.height, self._size.width):
            raise UnsupportedError(
                f"Fake file: got inputs of {feed['wide'].shape}, needed {self._size}."
            )
        reference = self._torch.infer(feed)[OUTPUT]
        return {OUTPUT: reference + noise_of(reference.shape, error_db=self._error_db)}

    def time(self, feed: Feed, *, warmup: int, runs: int) -> Timings:
        self.infer(feed)
        samples = (self._samples_ms * (runs // len(self._samples_ms) + 1))[:runs]
        return Timings(load_ms=1.0, first_ms=5.0, samples_ms=samples, accelerator="fake")


def noise_of(
    shape: tuple[int, ...], *, error_db: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Seeded noise whose root mean square is exactly that of ``error_db`` at peak 1.0."""
    if error_db == EXACT:
        return np.zeros(shape, np.float32)
    noise = np.random.default_rng(0).standard_normal(shape)
    noise *= 10 ** (-error_db / 20) / np.sqrt(np.mean(noise**2))
    return noise.astype(np.float32)


@dataclass(frozen=True)
class FakeProgram:
    """A program that is the float network itself, whatever the recipe says."""

    network: nn.Module
    recipe: Recipe
    calibration: Calibration | None = None

    def module(self, *, fold_weights: bool = True) -> nn.Module:
        return self.network


@dataclass
class Record:
    """What a fake runtime was asked to do, over all its instances."""

    loaded: int = 0
    quantized: list[str] = field(default_factory=list)
    lowered: list[str] = field(default_factory=list)


class FakeRuntime(Runtime):
    """Writes ``model.fake``. ``failure`` is raised in the middle of lowering, when set."""

    key: ClassVar[str] = "fake"
    error_db: ClassVar[float] = EXACT
    failure: ClassVar[BaseException | None] = None
    record: ClassVar[Record] = Record()

    def __init__(self) -> None:
        self.record.loaded += 1

    def quantizes_itself(self, recipe: Recipe) -> bool:
        return True

    def quantize(self, network: nn.Module, recipe: Recipe, calibration: CaptureSet) -> FakeProgram:
        self.record.quantized.append(recipe.name)
        known = Calibration(calibration.sha256, len(calibration), len(calibration), {}, {})
        return FakeProgram(network, recipe, known if recipe.needs_calibration else None)

    def lower(
        self, program: object, *, backend: str, resolution: Resolution, folder: Path
    ) -> Lowered:
        if backend != "cpu":
            raise UnsupportedError(f"Fake backend {backend!r} is unknown. Choose cpu.")
        assert isinstance(program, FakeProgram)
        self.record.lowered.append(f"{program.recipe.name} {resolution}")
        torch.save(program.module(), folder / "model.fake")
        if self.failure is not None:
            raise self.failure
        return Lowered(
            file="model.fake",
            inputs=tuple(_spec(spec.name, spec.channels, resolution) for spec in INPUTS),
            outputs=(_spec(OUTPUT, 3, resolution),),
            delegation=Delegation(1, 0, {"fake": {"conv2d": 1}}),
            notes=("A fake file.",),
        )

    def cannot_run(self, artifact: Artifact) -> str | None:
        return None

    def open(self, artifact: Artifact, *, threads: int) -> FakeRunner:
        try:
            network = torch.load(artifact.path, weights_only=False)
        except (EOFError, OSError, RuntimeError, UnpicklingError) as error:
            raise ArtifactError(
                f"Artifact {artifact.path}: cannot be loaded ({error}). Export again."
            ) from error
        size = artifact.manifest.resolution
        return FakeRunner(network, error_db=self.error_db, size=size)


def _spec(name: str, channels: int, resolution: Resolution) -> TensorSpec:
    return TensorSpec(name, (1, channels, resolution.height, resolution.width), "float32", "NCHW")


def use_fake_runtime(monkeypatch: pytest.MonkeyPatch, *, alone: bool = True) -> Record:
    """Adds ``fake`` to the table, ``alone`` or beside the real runtimes; returns a new record."""
    for key in list(RUNTIMES) if alone else []:
        monkeypatch.delitem(RUNTIMES, key)
    monkeypatch.setitem(RUNTIMES, "fake", FAKE_ROW)
    monkeypatch.setattr(FakeRuntime, "record", Record())
    return FakeRuntime.record
