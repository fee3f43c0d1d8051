"""The Runner protocol on an Android device: jobs pushed, run there, outputs verified."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np
import numpy.typing as npt

from android_harness.facts import DeviceIdentity, identify
from android_harness.install import InstalledBundle
from android_harness.job import (
    ITEM_BYTES,
    RESULT_NAME,
    Accelerator,
    Job,
    JobInput,
    JobOutput,
    Runtime,
)
from android_harness.job_result import JobResult, ResultOutput, read_result
from android_harness.transfer import pull, push, push_all
from dfnet.artifact import Artifact, sha256_of, verify_artifact
from dfnet.errors import DeviceError, UnsupportedError
from dfnet.manifest import TensorSpec
from dfnet.runner import Device, Output, Timings
from dfnet.signature import OUTPUT, Feed
from export.feeds import check_resolution
from export.stored import from_stored, to_stored

_MODEL = "model.bin"


@dataclass(frozen=True)
class Settings:
    """How a job runs; None leaves a choice to the runtime. ``timeout_s`` is for one process.

    ``cpus`` are the cores it may use, see ``conditions.big_cores``. ``xnnpack_flags`` are those of
    LiteRT's delegate, ``job.XNNPACK_FORCE_FP16`` among them.
    """

    threads: int | None = None
    cpus: tuple[int, ...] | None = None
    accelerator: Accelerator = "cpu"
    xnnpack_flags: int | None = None
    timeout_s: float = 600.0


@dataclass(frozen=True)
class Ran:
    """One process of the native runner: its verified answer, and the last inference's output."""

    result: JobResult
    output: Output


class AndroidRunner:
    """One artifact on one device. Use it as a context manager; it leaves nothing behind.

    Every call is a new process there, which loads the file anew in ``folder``. A connection that
    drops, an adb server that ends or a device that reboots makes the process run again. On an
    emulator ``time`` gives the guest's time, which is no latency.

    Raises:
        UnsupportedError: there is no native runner for the artifact's runtime, or the settings
            contradict each other.
        ArtifactError: the file is missing or altered.
    """

    def __init__(
        self, artifact: Artifact, installed: InstalledBundle, settings: Settings | None = None
    ) -> None:
        verify_artifact(artifact)
        self._manifest = artifact.manifest
        if self._manifest.runtime not in get_args(Runtime):
            raise UnsupportedError(
                f"Artifact {artifact.id}: got the runtime {self._manifest.runtime}, needed one of "
                f"{', '.join(get_args(Runtime))}, which have native runners."
            )
        self._artifact = artifact
        self._installed = installed
        self._settings = settings or Settings()
        self.transport = installed.transport
        self._identity: DeviceIdentity | None = None
        self._stack = ExitStack()
        self.folder = ""

    @property
    def identity(self) -> DeviceIdentity:
        """What the device is; asked once.

        Raises:
            DeviceError: its ABI is not the bundle's.
        """
        if self._identity is None:
            found, built = identify(self.transport), self._installed.bundle.manifest.abi
            if found.abi != built:
                raise DeviceError(
                    f"{self.transport.subject}: got the ABI {found.abi}, needed {built}, which "
                    f"the runners are built for. Run: python -m android_harness bundle --abi "
                    f"{found.abi}"
                )
            self._identity = found
        return self._identity

    @property
    def device(self) -> Device:
        return self.identity.device

    def __enter__(self) -> Self:
        # Before anything is pushed, the device must be one that can run it.
        _ = self.identity
        with ExitStack() as stack:
            self.folder = stack.enter_context(self.transport.scratch())
            push(self.transport, self._artifact.path, f"{self.folder}/{_MODEL}")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def infer(self, feed: Feed) -> Output:
        return self.run(feed).output

    def time(self, feed: Feed, *, warmup: int, runs: int) -> Timings:
        ran = self.run(feed, mode="burst", warmups=warmup, runs=runs)
        (repeat,) = ran.result.repeats or ()
        return Timings(
            load_ms=repeat.load_ms,
            first_ms=repeat.first_ms,
            samples_ms=repeat.samples_ms,
            accelerator=str(ran.result.accelerator),
        )

    def run(self, feed: Feed, **asked: Any) -> Ran:
        """One process with ``feed``; ``asked`` are fields of ``job.Job`` such as ``mode``.

        Raises:
            UnsupportedError: the feed does not fit the file, or ``asked`` contradicts itself.
            DeviceError: the runner failed, died, hung, or answered something else than was asked.
            ConnectionLostError: the device does not come back.
        """
        if not self.folder:
            raise DeviceError("Android runner: not entered, needed `with AndroidRunner(...)`.")
        check_resolution(feed, self._manifest)
        with tempfile.TemporaryDirectory(prefix="dfnet-job-") as scratch:
            folder = Path(scratch)
            job = self._write_job(folder, feed, asked)
            self._execute(folder, job)
            pull(self.transport, f"{self.folder}/{RESULT_NAME}", folder / RESULT_NAME)
            result = read_result(folder)
            result.require(job)
            return Ran(result, self._output(folder, result))

    def _write_job(self, folder: Path, feed: Feed, asked: dict[str, Any]) -> Job:
        manifest, settings = self._manifest, self._settings
        job = Job(
            runtime=manifest.runtime,  # type: ignore[arg-type]
            artifact_file=_MODEL,
            artifact_sha256=manifest.artifact_sha256,
            inputs=tuple(
                _write_input(folder / f"input{i}.bin", spec, feed[spec.name])
                for i, spec in enumerate(manifest.inputs)
            ),
            outputs=tuple(
                JobOutput(spec.name, f"output{i}.bin", spec.shape, spec.dtype)  # type: ignore[arg-type]
                for i, spec in enumerate(manifest.outputs)
            ),
            threads=settings.threads,
            cpus=settings.cpus,
            accelerator=settings.accelerator,
            xnnpack_flags=settings.xnnpack_flags,
            **asked,
        )
        job.write(folder)
        return job

    def _execute(self, folder: Path, job: Job) -> None:
        """Pushes the job and runs it; after a lost connection, all of it again."""
        command = self._installed.bundle.command(job.runtime, self.folder)
        files = {f"{self.folder}/{file.name}": file for file in sorted(folder.iterdir())}
        attempts = 0

        def attempt() -> int:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                self._restore()
            push_all(self.transport, files)
            done = self.transport.run(
                command, folder=self._installed.folder, timeout_s=self._settings.timeout_s
            )
            if done.code not in (0, 1):
                said = " ".join((done.stderr or done.stdout).split())[-300:] or "no message"
                raise DeviceError(
                    f"{self.transport.subject}: the runner died with {done.code} ({said}), needed "
                    "a result. Check the device's memory, then try again."
                )
            return done.code

        self.transport.persist(attempt)

    def _restore(self) -> None:
        """What the process needs, after the device was away: it may run still, or be rebooted."""
        self.transport.stop(self.folder)
        self._installed.restore()
        self.transport.query(["mkdir", "-p", self.folder])
        push(self.transport, self._artifact.path, f"{self.folder}/{_MODEL}")

    def _output(self, folder: Path, result: JobResult) -> Output:
        (spec,) = self._manifest.outputs
        (given,) = result.outputs or ()
        path = folder / given.file
        pull(self.transport, f"{self.folder}/{given.file}", path)
        stored = _read_output(path, given)
        return {OUTPUT: from_stored(stored, spec)}


def _write_input(path: Path, spec: TensorSpec, values: npt.NDArray[np.float32]) -> JobInput:
    stored = to_stored(values, spec)
    path.write_bytes(stored.astype(stored.dtype.newbyteorder("<")).tobytes())
    return JobInput(spec.name, path.name, spec.shape, spec.dtype, sha256_of(path))  # type: ignore[arg-type]


def _read_output(path: Path, given: ResultOutput) -> npt.NDArray[Any]:
    needed = ITEM_BYTES[given.dtype] * int(np.prod(given.shape))
    if path.stat().st_size != needed:
        raise DeviceError(
            f"Output {given.name}: got {path.stat().st_size} bytes, needed {needed}. Run it again."
        )
    got = sha256_of(path)
    if got != given.sha256:
        raise DeviceError(
            f"Output {given.name}: got {got[:12]}, needed sha256 {given.sha256[:12]}, which the "
            "runner wrote. Run it again."
        )
    dtype = np.dtype(given.dtype).newbyteorder("<")
    return np.frombuffer(path.read_bytes(), dtype).reshape(given.shape)
