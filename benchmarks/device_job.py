"""Job folders for runners on devices: an artifact, inputs as raw files, and job.json.

<folder>/<artifact id>/job.json
                       model.*               the exported file, byte for byte
                       <input>.f32           little-endian float32 in the file's own layout
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.device_protocol import PROTOCOL, Job, JobInput, Unit
from benchmarks.latency import FULL
from dfnet.artifact import Artifact, staged_folder
from dfnet.errors import UnsupportedError
from dfnet.manifest import TensorSpec
from dfnet.profiles import Resolution
from dfnet.signature import Feed

JOB_NAME = "job.json"
_DEFAULT_UNITS: dict[str, tuple[Unit, ...]] = {
    "coreml": ("cpu", "gpu", "neural_engine"),
}
"""Units a backend may use when nothing else is asked for; the CPU alone where not listed."""


@dataclass(frozen=True)
class JobOptions:
    """``accelerator`` empty means what the backend may use; ``threads`` None what it chooses."""

    accelerator: tuple[Unit, ...] = ()
    threads: int | None = None
    device_name: str | None = None


def write_jobs(
    artifacts: Sequence[Artifact],
    feed: Callable[[Resolution], Feed],
    folder: Path,
    options: JobOptions,
) -> Iterator[Path]:
    """Writes a job per artifact, each whole or not at all; gives its folder once it stands.

    ``feed`` makes the inputs at a resolution.

    Raises:
        UnsupportedError: a file takes inputs that raw float32 files cannot give.
        ArtifactError: the folder cannot be written.
    """
    for artifact in artifacts:
        feed_here = feed(artifact.manifest.resolution)
        yield _write(artifact, feed_here, folder / artifact.id, options)


def _write(artifact: Artifact, feed: Feed, target: Path, options: JobOptions) -> Path:
    manifest = artifact.manifest
    with staged_folder(target) as folder:
        inputs = tuple(_write_input(spec, feed, folder) for spec in manifest.inputs)
        copy = shutil.copytree if artifact.path.is_dir() else shutil.copyfile
        copy(artifact.path, folder / manifest.artifact_file)
        job = Job(
            protocol=PROTOCOL,
            artifact_file=manifest.artifact_file,
            artifact_sha256=manifest.artifact_sha256,
            inputs=inputs,
            repeats=FULL.repeats,
            warmups=FULL.warmups,
            runs=FULL.runs,
            seconds=FULL.seconds,
            threads=options.threads,
            accelerator=options.accelerator or _DEFAULT_UNITS.get(manifest.backend, ("cpu",)),
            device_name=options.device_name,
        )
        (folder / JOB_NAME).write_text(json.dumps(asdict(job), indent=1) + "\n", encoding="utf-8")
    return target


def _write_input(spec: TensorSpec, feed: Feed, folder: Path) -> JobInput:
    if spec.dtype != "float32" or spec.name not in feed:
        raise UnsupportedError(
            f"Job input {spec.name!r}: got a file that takes {spec.dtype}, needed float32 inputs "
            f"among {', '.join(feed)}. Choose another recipe."
        )
    values: npt.NDArray[np.float32] = feed[spec.name]
    if spec.layout == "NHWC":
        values = values.transpose(0, 2, 3, 1)
    file = f"{spec.name}.f32"
    (folder / file).write_bytes(np.ascontiguousarray(values, "<f4").tobytes())
    return JobInput(spec.name, file, tuple(values.shape), "float32")
