"""Running a .tflite file on this machine's CPU."""

from __future__ import annotations

import time
from functools import partial
from types import TracebackType
from typing import Any, Self

from ai_edge_litert.interpreter import Interpreter

from dfnet.artifact import Artifact, verify_artifact
from dfnet.errors import ArtifactError
from dfnet.manifest import TensorSpec
from dfnet.runner import Device, Output, Timings, time_calls
from dfnet.signature import OUTPUT, Feed
from export.feeds import checked_inputs
from export.litert_graph import delegate_calls, input_specs, output_specs
from export.stored import from_stored as from_stored
from export.stored import to_stored as to_stored


class LiteRTRunner:
    """A file loaded by LiteRT's interpreter, with the XNNPACK delegate phones use on their CPU.

    Raises:
        ArtifactError: the file is missing, altered, or not one LiteRT can load.
    """

    def __init__(self, artifact: Artifact, *, threads: int) -> None:
        verify_artifact(artifact)
        self._manifest = artifact.manifest
        self.device = Device("host", f"LiteRT, CPU, {threads} threads")
        start = time.perf_counter_ns()
        try:
            self._interpreter = Interpreter(str(artifact.path), num_threads=threads)
            signature = self._interpreter.get_signature_runner(artifact.manifest.entry)
            # Only the graph that will run: allocating others takes memory for nothing.
            self._graph, self._subgraph = self._interpreter._interpreter, signature._subgraph_index
            self._graph.AllocateTensors(self._subgraph)
        except (ValueError, RuntimeError) as error:
            raise ArtifactError(
                f"LiteRT file {artifact.path}: LiteRT cannot load it ({error}). Export again."
            ) from error
        self._load_ms = (time.perf_counter_ns() - start) / 1e6
        inputs = input_specs(self._interpreter, artifact.manifest.entry)
        outputs = output_specs(self._interpreter, artifact.manifest.entry)
        self._inputs = _indices(inputs, signature.get_input_details())
        self._outputs = _indices(outputs, signature.get_output_details())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self._interpreter, self._graph

    def infer(self, feed: Feed) -> Output:
        self._load_inputs(feed)
        self._graph.Invoke(self._subgraph)
        ((spec, index),) = self._outputs
        return {OUTPUT: from_stored(self._graph.GetTensor(index, self._subgraph), spec)}

    def time(self, feed: Feed, *, warmup: int, runs: int) -> Timings:
        self._load_inputs(feed)
        return time_calls(
            partial(self._graph.Invoke, self._subgraph),
            warmup=warmup,
            runs=runs,
            load_ms=self._load_ms,
            accelerator=self._accelerator(),
        )

    def _load_inputs(self, feed: Feed) -> None:
        places = {spec.name: (spec, index) for spec, index in self._inputs}
        for name, array in checked_inputs(feed, self._manifest):
            spec, index = places[name]
            self._graph.SetTensor(index, to_stored(array, spec), self._subgraph)
            del array

    def _accelerator(self) -> str:
        return "XNNPACK" if delegate_calls(self._interpreter) else "LiteRT's own CPU kernels"


def _indices(
    specs: tuple[TensorSpec, ...], details: dict[str, dict[str, Any]]
) -> tuple[tuple[TensorSpec, int], ...]:
    return tuple((spec, int(details[spec.name]["index"])) for spec in specs)
