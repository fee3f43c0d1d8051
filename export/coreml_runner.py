"""Running a Core ML package on macOS. Tested with a stand-in for Core ML, not yet on a Mac."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import coremltools as ct

from dfnet.artifact import Artifact
from dfnet.errors import ArtifactError, DFNetError
from dfnet.runner import Device, Output, Timings, time_calls
from dfnet.signature import OUTPUT, Feed
from export.coreml_pictures import features_of, picture_of
from export.coreml_plan import read_placement
from export.feeds import check_resolution
from export.macos import chip, macos_release


class ComputeUnit(StrEnum):
    """Which processors Core ML may choose from."""

    ALL = "all"
    CPU = "cpu"
    CPU_AND_GPU = "cpu-and-gpu"
    CPU_AND_NEURAL_ENGINE = "cpu-and-neural-engine"

    @property
    def coremltools(self) -> ct.ComputeUnit:
        """The same choice in coremltools' words."""
        return _UNITS[self]


_UNITS = {
    ComputeUnit.ALL: ct.ComputeUnit.ALL,
    ComputeUnit.CPU: ct.ComputeUnit.CPU_ONLY,
    ComputeUnit.CPU_AND_GPU: ct.ComputeUnit.CPU_AND_GPU,
    ComputeUnit.CPU_AND_NEURAL_ENGINE: ct.ComputeUnit.CPU_AND_NE,
}


class CoreMLRunner:
    """A package loaded by Core ML on this Mac, free to use the processors of ``unit``.

    Raises:
        ArtifactError: Core ML cannot compile or load the package.
    """

    def __init__(self, artifact: Artifact, unit: ComputeUnit) -> None:
        self._manifest = artifact.manifest
        self._unit = unit
        self.device = Device("host", device_name(unit))
        start = time.perf_counter_ns()
        self._model = load_model(artifact.path, unit, function=artifact.manifest.entry)
        self._load_ms = (time.perf_counter_ns() - start) / 1e6

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self._model

    def infer(self, feed: Feed) -> Output:
        check_resolution(feed, self._manifest)
        return {OUTPUT: picture_of(self._predict(feed)[OUTPUT], self._manifest)}

    def time(self, feed: Feed, *, warmup: int, runs: int) -> Timings:
        check_resolution(feed, self._manifest)
        return time_calls(
            lambda: self._predict(feed),
            warmup=warmup,
            runs=runs,
            load_ms=self._load_ms,
            accelerator=self._accelerator,
        )

    @cached_property
    def _accelerator(self) -> str:
        return describe_placement(self._model, self._unit)

    def _predict(self, feed: Feed) -> Mapping[str, Any]:
        try:
            # A new dictionary each time: coremltools converts its values in place.
            result: Mapping[str, Any] = self._model.predict(features_of(feed, self._manifest))
        except RuntimeError as error:
            raise ArtifactError(
                f"{self._manifest.artifact_file}: Core ML cannot run it ({error}). Export again."
            ) from error
        return result


def device_name(unit: ComputeUnit) -> str:
    """Such as ``Core ML all, macOS 15.1, Apple M2``."""
    parts = (f"Core ML {unit}", f"macOS {macos_release()}", chip())
    return ", ".join(part for part in parts if part)


def load_model(
    package: Path, unit: ComputeUnit, *, function: str | None = None
) -> ct.models.MLModel:
    """A package compiled and loaded by Core ML; ``function`` is one of several, else the default.

    Raises:
        ArtifactError: Core ML refuses it.
    """
    try:
        with warnings.catch_warnings():
            # coremltools only warns when Core ML refuses a package, and fails at predict().
            warnings.simplefilter("error", RuntimeWarning)
            model = ct.models.MLModel(
                str(package), compute_units=unit.coremltools, function_name=function
            )
    except (RuntimeWarning, RuntimeError, OSError, ValueError) as error:
        raise ArtifactError(
            f"Core ML package {package}: cannot be loaded ({error}). Export again."
        ) from error
    # Of a specification that is too new coremltools does not even warn.
    if model.__proxy__ is None:
        raise ArtifactError(
            f"Core ML package {package}: got specification "
            f"{model.get_spec().specificationVersion}, which this macOS cannot load. Update macOS."
        )
    return model


def describe_placement(model: ct.models.MLModel, unit: ComputeUnit) -> str:
    """What a loaded model runs on: operations per device as Core ML's compute plan has them, or
    ``placement unknown (reason)``."""
    try:
        compiled = Path(model.get_compiled_model_path())
        return f"Core ML {unit}: {read_placement(compiled, unit.coremltools).summary}"
    except DFNetError as error:
        return f"Core ML {unit}: placement unknown ({str(error).rstrip('.')})"
