"""Running a Core ML package on macOS."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import coremltools as ct
import numpy as np

from dfnet.artifact import Artifact
from dfnet.errors import ArtifactError
from dfnet.runner import Device, Output, Timings, time_calls
from dfnet.signature import OUTPUT, Feed
from export.feeds import check_resolution


class CoreMLRunner:
    """A package loaded by Core ML on this Mac, free to use every compute unit.

    Raises:
        ArtifactError: Core ML cannot compile or load the package.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._manifest = artifact.manifest
        self.device = Device("host", f"Core ML, macOS {platform.mac_ver()[0]}")
        start = time.perf_counter_ns()
        try:
            with warnings.catch_warnings():
                # coremltools only warns when Core ML refuses a package, and fails at predict().
                warnings.simplefilter("error", RuntimeWarning)
                self._model = ct.models.MLModel(
                    str(artifact.path), compute_units=ct.ComputeUnit.ALL
                )
        except (RuntimeWarning, RuntimeError, OSError, ValueError) as error:
            raise ArtifactError(
                f"Core ML package {artifact.path}: cannot be loaded ({error}). Export again."
            ) from error
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
        return {OUTPUT: np.asarray(self._predict(feed)[OUTPUT], np.float32)}

    def time(self, feed: Feed, *, warmup: int, runs: int) -> Timings:
        check_resolution(feed, self._manifest)
        return time_calls(
            lambda: self._predict(feed),
            warmup=warmup,
            runs=runs,
            load_ms=self._load_ms,
            accelerator="Core ML, placement not reported",
        )

    def _predict(self, feed: Feed) -> Mapping[str, Any]:
        try:
            # A new dictionary each time: coremltools converts its values in place.
            result: Mapping[str, Any] = self._model.predict(dict(feed))
        except RuntimeError as error:
            raise ArtifactError(
                f"{self._manifest.artifact_file}: Core ML cannot run it ({error}). Export again."
            ) from error
        return result
