"""Running a .pte file on this machine with the ExecuTorch runtime."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import torch
from executorch.extension.pybindings import portable_lib

from dfnet.artifact import Artifact, verify_artifact
from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.runner import Device, Output, Timings, time_calls
from dfnet.signature import OUTPUT, Feed
from export.feeds import check_resolution
from export.stored import from_stored, stored_feed

METHOD = "forward"


class ExecuTorchRunner:
    """A file loaded by ExecuTorch.

    Runners open at the same time share one thread pool, hence one number of threads.

    Raises:
        ArtifactError: the file is missing, altered, or not one ExecuTorch can load.
        UnsupportedError: a runner with another number of threads is open.
    """

    def __init__(self, artifact: Artifact, *, threads: int) -> None:
        verify_artifact(artifact)
        self._manifest = artifact.manifest
        self.device = Device("host", f"ExecuTorch, CPU, {threads} threads")
        _use_threads(threads)
        start = time.perf_counter_ns()
        self._program, self._method = _load(artifact.path, self._manifest.entry or METHOD)
        self._load_ms = (time.perf_counter_ns() - start) / 1e6
        _open_runners.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self._method, self._program
        _open_runners.discard(self)

    def infer(self, feed: Feed) -> Output:
        check_resolution(feed, self._manifest)
        (spec,) = self._manifest.outputs
        (result,) = self._method.call(self._tensors(feed))
        return {OUTPUT: from_stored(result.numpy(), spec)}

    def time(self, feed: Feed, *, warmup: int, runs: int) -> Timings:
        """Each sample holds ExecuTorch's copy of the inputs into its own memory, as on a phone."""
        check_resolution(feed, self._manifest)
        tensors = self._tensors(feed)
        return time_calls(
            lambda: self._method.call(tensors, clone_outputs=False),
            warmup=warmup,
            runs=runs,
            load_ms=self._load_ms,
            accelerator=self._accelerator(),
        )

    def _tensors(self, feed: Feed) -> tuple[torch.Tensor, ...]:
        """Contiguous, in the file's order, which is that of ``INPUTS``."""
        return tuple(map(torch.from_numpy, stored_feed(feed, self._manifest).values()))

    def _accelerator(self) -> str:
        names = {"xnnpack": "XNNPACK", "coreml": "Core ML"}
        delegation = self._manifest.delegation
        if delegation is None or not delegation.delegate_calls:
            return "ExecuTorch portable kernels"
        return names[self._manifest.backend]


_open_runners: WeakSet[ExecuTorchRunner] = WeakSet()


def _use_threads(threads: int) -> None:
    """Sizes the process's thread pool; it must be done before a method is loaded.

    A loaded method keeps a pointer to the pool and crashes once the pool is replaced, so an open
    runner holds the size.
    """
    current = portable_lib._threadpool_get_thread_count()
    if current == threads:
        return
    if len(_open_runners):
        raise UnsupportedError(
            f"ExecuTorch: got {threads} threads while a runner with {current} is open, needed the "
            "same number. Close it first."
        )
    portable_lib._unsafe_reset_threadpool(threads)


def _load(path: Path, method: str) -> tuple[Any, Any]:
    try:
        program = portable_lib._load_program(
            str(path), program_verification=portable_lib.Verification.InternalConsistency
        )
        return program, program.load_method(method)
    except RuntimeError as error:
        raise ArtifactError(
            f"ExecuTorch file {path}: ExecuTorch cannot load it ({error}). Export again."
        ) from error
