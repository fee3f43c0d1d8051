"""Opening a file for inference without what only exporting needs, which would double the memory."""

from __future__ import annotations

import importlib

from dfnet.artifact import Artifact
from dfnet.errors import MissingDependencyError, UnsupportedError
from dfnet.runner import Runner
from export import load_runtime

_RUNNERS = {
    ("litert", "xnnpack"): "export.litert_runner:LiteRTRunner",
    ("executorch", "xnnpack"): "export.executorch_runner:ExecuTorchRunner",
    ("onnx", "cpu"): "export.onnx_runner:ONNXRunner",
}
"""(runtime, backend) -> its runner; importing a runtime itself imports its converter."""


def open_runner(artifact: Artifact, *, threads: int) -> Runner:
    """Loads ``artifact``; one that cannot run here goes to its reference evaluator.

    Raises:
        UnsupportedError: nothing on this machine executes it.
        ArtifactError: the file cannot be loaded.
        MissingDependencyError: its SDK is not installed.
    """
    manifest = artifact.manifest
    location = _RUNNERS.get((manifest.runtime, manifest.backend))
    if location is None:
        return _by_runtime(artifact, threads)
    module, _, name = location.partition(":")
    try:
        runner = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise MissingDependencyError(
            f"Runtime {manifest.runtime}: not available here ({error}). Run `make setup`."
        ) from error
    opened: Runner = runner(artifact, threads=threads)
    return opened


def _by_runtime(artifact: Artifact, threads: int) -> Runner:
    runtime = load_runtime(artifact.manifest.runtime)
    reason = runtime.cannot_run(artifact)
    if reason is None:
        return runtime.open(artifact, threads=threads)
    executions = runtime.executions(artifact, threads=threads)
    if not executions:
        raise UnsupportedError(f"Artifact {artifact.id}: {reason}. Run it there.")
    return executions[0]()
