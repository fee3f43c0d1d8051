"""Job folders for native runners, and the runner itself on this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from android_harness.bundle import Bundle
from android_harness.job import Job, JobInput, JobOutput, Runtime
from dfnet.artifact import Artifact, sha256_of
from dfnet.errors import MissingDependencyError
from dfnet.manifest import TensorSpec
from dfnet.model import DFNet, DFNetConfig
from dfnet.profiles import Resolution
from dfnet.signature import INPUTS, Feed
from export import load_runtime
from export.litert_runner import to_stored
from quantize.fuse import fuse
from quantize.ptq import FloatProgram
from quantize.recipe import find_recipe

from lowering import lower

MODEL = "model.bin"
SIZE = Resolution(32, 40)


def export_tiny(runtime: Runtime, folder: Path) -> Artifact:
    """A tiny float DFNet, exported for ``runtime`` at ``SIZE``; the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DFNet(DFNetConfig(width=4, blocks=(1, 1, 1))).eval()
    program = FloatProgram(find_recipe("fp32"), fuse(network, [a_feed()]))
    return lower(load_runtime(runtime), program, folder, resolution=SIZE)


def a_feed(seed: int = 0) -> Feed:
    """Noise for every input at ``SIZE``."""
    generator = np.random.default_rng(seed)
    shape = (SIZE.height, SIZE.width)
    return {s.name: generator.random((1, s.channels, *shape), np.float32) for s in INPUTS}


@contextmanager
def skipping_what_is_not_installed() -> Iterator[None]:
    """Skips where there is no compiler or qemu, unless ``DEVICE_TOOLS=installed`` says there is."""
    try:
        yield
    except MissingDependencyError as error:
        if os.environ.get("DEVICE_TOOLS") == "installed":
            raise
        pytest.skip(str(error))


def write_job(folder: Path, artifact: Artifact, feed: Feed, **options: Any) -> Job:
    """A job that gives ``feed`` to a copy of ``artifact``, in its own numbers and layout."""
    manifest = artifact.manifest
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(artifact.path.read_bytes())
    job = Job(
        runtime=manifest.runtime,  # type: ignore[arg-type]
        artifact_file=MODEL,
        artifact_sha256=sha256_of(folder / MODEL),
        inputs=tuple(_write_input(folder, spec, feed[spec.name]) for spec in manifest.inputs),
        outputs=tuple(
            JobOutput(spec.name, f"{spec.name}.out", spec.shape, spec.dtype)  # type: ignore[arg-type]
            for spec in manifest.outputs
        ),
        **options,
    )
    job.write(folder)
    return job


def _write_input(folder: Path, spec: TensorSpec, real: npt.NDArray[np.float32]) -> JobInput:
    assert spec.layout == "NCHW"
    path = folder / f"{spec.name}.in"
    path.write_bytes(to_stored(real, spec).tobytes())
    return JobInput(spec.name, path.name, spec.shape, spec.dtype, sha256_of(path))  # type: ignore[arg-type]


def read_output(folder: Path, job: Job) -> npt.NDArray[Any]:
    (output,) = job.outputs
    return np.fromfile(folder / output.file, output.dtype).reshape(output.shape)


def run_here(
    bundle: Bundle, runtime: Runtime, folder: Path, *, timeout_s: float = 300.0
) -> subprocess.CompletedProcess[str]:
    """Runs the job in ``folder`` on this machine, with whatever exit code."""
    return subprocess.run(
        bundle.command(runtime, str(folder.resolve())),
        cwd=bundle.folder,
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # a runtime may quote a broken model
        timeout=timeout_s,
        check=False,
    )
