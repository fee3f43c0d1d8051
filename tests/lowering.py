"""Lowering one program straight to an artifact, without the pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dfnet.artifact import Artifact, Manifest, bytes_of, read_artifact, sha256_of, write_manifest
from dfnet.profiles import Resolution
from dfnet.signature import OUTPUT, Feed, feed_tensors
from export.runtime import Runtime
from export.variants import Platform
from quantize.program import Program


def lower(
    runtime: Runtime,
    program: Program,
    folder: Path,
    *,
    resolution: Resolution,
    backend: str = "xnnpack",
    platform: Platform = "android",
) -> Artifact:
    """The artifact of ``program`` in ``folder``, with a manifest as the pipeline writes it."""
    lowered = runtime.lower(program, backend=backend, resolution=resolution, folder=folder)
    file = folder / lowered.file
    manifest = Manifest(
        runtime=runtime.key,
        backend=backend,
        precision=program.recipe.precision,
        platform=platform,
        resolution=resolution,
        inputs=lowered.inputs,
        outputs=lowered.outputs,
        checkpoint_sha256="0" * 64,
        recipe=program.recipe.to_json(),
        calibration_sha256=program.calibration.sha256 if program.calibration else None,
        build_key="0" * 64,
        artifact_file=lowered.file,
        artifact_sha256=sha256_of(file),
        artifact_bytes=bytes_of(file),
        tool_versions={},
        delegation=lowered.delegation,
        notes=lowered.notes,
        facts=lowered.facts,
    )
    write_manifest(folder, manifest)
    return read_artifact(folder)


def simulate(program: Program, feed: Feed) -> npt.NDArray[np.float32]:
    """The program's own output in torch."""
    with torch.no_grad():
        output: npt.NDArray[np.float32] = program.module()(*feed_tensors(feed)).numpy()
    return output


def infer(runtime: Runtime, artifact: Artifact, feed: Feed) -> npt.NDArray[np.float32]:
    """The file's output on this machine."""
    with runtime.open(artifact, threads=1) as runner:
        return runner.infer(feed)[OUTPUT]
