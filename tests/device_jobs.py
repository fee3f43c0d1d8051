"""Job folders for native runners, and the runner itself on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from android_harness.bundle import Bundle
from android_harness.job import Job, JobInput, JobOutput, Runtime
from dfnet.artifact import TensorSpec, sha256_of

MODEL = "model.bin"


def write_job(
    folder: Path,
    runtime: Runtime,
    model: Path,
    specs: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]],
    stored: dict[str, npt.NDArray[np.generic]],
    **options: object,
) -> Job:
    """A job that gives ``stored`` (the file's own numbers and layout) to a copy of ``model``."""
    inputs, outputs = specs
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(model.read_bytes())
    job = Job(
        runtime=runtime,
        artifact_file=MODEL,
        artifact_sha256=sha256_of(folder / MODEL),
        inputs=tuple(_write_input(folder, spec, stored[spec.name]) for spec in inputs),
        outputs=tuple(JobOutput(s.name, f"{s.name}.out", s.shape, s.dtype) for s in outputs),  # type: ignore[arg-type]
        **options,  # type: ignore[arg-type]
    )
    job.write(folder)
    return job


def _write_input(folder: Path, spec: TensorSpec, values: npt.NDArray[np.generic]) -> JobInput:
    path = folder / f"{spec.name}.in"
    path.write_bytes(np.ascontiguousarray(values).tobytes())
    return JobInput(spec.name, path.name, spec.shape, spec.dtype, sha256_of(path))  # type: ignore[arg-type]


def read_output(folder: Path, job: Job) -> npt.NDArray[np.generic]:
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
        text=True,
        timeout=timeout_s,
        check=False,
    )
