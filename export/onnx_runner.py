"""Running an ONNX file with ONNX Runtime's CPU provider, and asking it what it would run."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import onnx
import onnxruntime
from onnx import GraphProto
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from dfnet.artifact import Artifact
from dfnet.errors import ArtifactError
from dfnet.manifest import Delegation
from dfnet.runner import Device, Output, Timings, time_calls
from dfnet.signature import OUTPUT, Feed
from export.feeds import check_resolution
from export.onnx_graph import operators
from export.stored import from_stored, stored_feed

_PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3
_REFUSALS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
"""ONNX Runtime's errors; they have no base class of their own."""


def optimized(file: Path) -> GraphProto:
    """What ONNX Runtime makes of a file: its graph after optimization, but before the rewrites of
    memory layout, which differ between processors.

    Raises:
        ArtifactError: ONNX Runtime cannot load the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "optimized.onnx"
        options = _options(threads=1)
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(result)
        _session(file, options)
        return onnx.load(result).graph


def delegation(graph: GraphProto, *, quantized_convolutions: int) -> Delegation:
    """Where the operators of an optimized graph run.

    One provider computes the whole graph itself, so ``delegate_calls`` is 0. A quantized
    convolution that was not fused into QLinearConv runs in float and counts as undelegated.
    """
    counts = operators(graph)
    fused = sum(n for name, n in counts.items() if name.endswith("QLinearConv"))
    return Delegation(
        delegate_calls=0,
        undelegated_convolutions=quantized_convolutions - fused,
        placement={_PROVIDER: counts},
    )


def _options(*, threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    return options


def _session(file: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=[_PROVIDER])
    except _REFUSALS as error:
        raise ArtifactError(
            f"ONNX file {file}: ONNX Runtime cannot load it ({error}). Export again."
        ) from error


class ONNXRunner:
    """A file loaded by ONNX Runtime on this machine's CPU.

    Raises:
        ArtifactError: the file is missing, truncated, or no valid ONNX.
    """

    def __init__(self, artifact: Artifact, *, threads: int) -> None:
        self._manifest = artifact.manifest
        self.device = Device("host", f"ONNX Runtime, CPU, {threads} threads")
        start = time.perf_counter_ns()
        self._session = _session(artifact.path, _options(threads=threads))
        self._load_ms = (time.perf_counter_ns() - start) / 1e6

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self._session

    def infer(self, feed: Feed) -> Output:
        check_resolution(feed, self._manifest)
        (spec,) = self._manifest.outputs
        (result,) = self._session.run([OUTPUT], stored_feed(feed, self._manifest))
        return {OUTPUT: from_stored(result, spec)}

    def time(self, feed: Feed, *, warmup: int, runs: int) -> Timings:
        check_resolution(feed, self._manifest)
        inputs = stored_feed(feed, self._manifest)
        return time_calls(
            lambda: self._session.run([OUTPUT], inputs),
            warmup=warmup,
            runs=runs,
            load_ms=self._load_ms,
            accelerator=f"ONNX Runtime {self._session.get_providers()[0]}",
        )
