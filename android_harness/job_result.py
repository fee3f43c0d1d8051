"""What a native runner answers: result.json. PROTOCOL.md explains every field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from android_harness.job import (
    PAGE,
    RESULT_NAME,
    Cpus,
    DType,
    FileName,
    Job,
    Mode,
    Name,
    Sha256,
    Shape,
    Version,
)
from dfnet.decoding import Rule, decode, read_json
from dfnet.errors import ArtifactError, DeviceError

Times = Annotated[tuple[float, ...], Rule("times over 0 ms", lambda v: all(one > 0 for one in v))]


@dataclass(frozen=True)
class RunnerBuild:
    """The program that ran; results of different ones are not compared."""

    name: Name
    version: Name
    sdk: Name
    compiler: Name
    libc: Name
    abi: Name


@dataclass(frozen=True)
class JobRepeat:
    """One load of the model and its inferences, in milliseconds; every sample is kept."""

    load_ms: Annotated[float, Rule("0 ms or more", lambda v: v >= 0)]
    first_ms: Annotated[float, Rule("over 0 ms", lambda v: v > 0)]
    warmup_ms: Times
    samples_ms: Times
    starts_ms: Annotated[
        tuple[float, ...], Rule("0 ms or more", lambda v: all(one >= 0 for one in v))
    ]


@dataclass(frozen=True)
class ResultOutput:
    """One output as it was written, and the hash of its file."""

    name: Name
    file: FileName
    shape: Shape
    dtype: DType
    sha256: Sha256


@dataclass(frozen=True)
class JobError:
    """Why there are no repeats."""

    stage: Literal["job", "model", "inputs", "load", "run", "outputs"]
    message: str


@dataclass(frozen=True)
class JobResult:
    """What a runner answered; result.json."""

    protocol: Version
    runner: RunnerBuild
    artifact_sha256: Sha256 | None = None
    mode: Mode | None = None
    threads: int | None = None
    cpus: Cpus | None = None
    accelerator: Name | None = None
    repeats: tuple[JobRepeat, ...] | None = None
    outputs: tuple[ResultOutput, ...] | None = None
    peak_memory_mb: Annotated[float, Rule("over 0 MB", lambda v: v > 0)] | None = None
    error: JobError | None = None

    def require(self, job: Job) -> tuple[JobRepeat, ...]:
        """The repeats, when this answers ``job`` in full.

        Raises:
            DeviceError: the runner reports an error, or answers something else than was asked.
        """
        if self.error is not None:
            said = " ".join(self.error.message.split())[:500]
            raise DeviceError(f"{self.runner.name} failed at {self.error.stage}: {said}")
        for complaint in _shortfalls(self, job):
            raise DeviceError(
                f"Result of {self.runner.name}: {complaint}. Rebuild the runner; see {PAGE}."
            )
        return self.repeats or ()


def _shortfalls(result: JobResult, job: Job) -> list[str]:
    asked = [(one.name, one.file, one.shape, one.dtype) for one in job.outputs]
    got = [(one.name, one.file, one.shape, one.dtype) for one in result.outputs or ()]
    repeats = result.repeats or ()
    checks = {
        "got another model or mode than the job's": result.artifact_sha256 == job.artifact_sha256
        and result.mode == job.mode,
        f"got outputs {got}, needed {asked}": got == asked,
        f"got {len(repeats)} repeats, needed {job.repeats}": len(repeats) == job.repeats,
        f"got threads {result.threads}, needed {job.threads}": result.threads == job.threads,
        f"got cores {result.cpus}, needed {job.cpus or 'some'}": bool(result.cpus)
        and (job.cpus is None or set(job.cpus) == set(result.cpus or ())),
        "got no accelerator, needed what ran": result.accelerator is not None,
        "got too few or too many warm-ups or samples": all(_enough(one, job) for one in repeats),
        "got no peak memory in mode memory, or one in another": (
            (result.peak_memory_mb is not None) == (job.mode == "memory")
        ),
    }
    return [complaint for complaint, holds in checks.items() if not holds]


def _enough(repeat: JobRepeat, job: Job) -> bool:
    samples, starts = repeat.samples_ms, repeat.starts_ms
    if len(repeat.warmup_ms) != job.warmups or len(samples) != len(starts):
        return False
    if job.mode in ("parity", "memory"):
        return not samples
    if len(samples) < job.runs or list(starts) != sorted(starts):
        return False
    spent_ms = sum(samples) if job.mode == "burst" else starts[-1] + samples[-1]
    # The runner adds whole nanoseconds, which a sum of floats may miss by less than one.
    return spent_ms + 1e-6 >= job.seconds * 1e3


def read_result(folder: Path) -> JobResult:
    """The result.json in ``folder``.

    Raises:
        DeviceError: it is missing or is not what PROTOCOL.md allows; names the field.
    """
    path = folder / RESULT_NAME
    try:
        result = decode(JobResult, read_json(path), f"Result {path}", page=PAGE)
    except ArtifactError as error:
        raise DeviceError(str(error)) from error
    if (result.error is None) == (result.repeats is None or result.outputs is None):
        raise DeviceError(
            f"Result {path}: got an error and outputs, or neither, needed one. See {PAGE}."
        )
    return result
