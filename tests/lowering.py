"""Lowering one program straight to an artifact, without the pipeline."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dfnet.artifact import Artifact, bytes_of, read_artifact, sha256_of, write_manifest
from dfnet.manifest import Manifest
from dfnet.profiles import Resolution
from dfnet.signature import OUTPUT, Feed
from dfnet.tensors import feed_tensors
from export.runtime import Lowered, Runtime
from export.variants import Platform
from quantize.observers import activations
from quantize.program import Program
from quantize.ptq import StaticProgram


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
    return described(
        runtime, program, lowered, folder, resolution=resolution, backend=backend, platform=platform
    )


def described(
    runtime: Runtime,
    program: Program,
    lowered: Lowered,
    folder: Path,
    *,
    resolution: Resolution,
    backend: str = "xnnpack",
    platform: Platform = "android",
) -> Artifact:
    """What was ``lowered`` into ``folder``, with its manifest written."""
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
        entry=lowered.entry_points[0].name if lowered.entry_points else None,
        entry_points=lowered.entry_points,
    )
    write_manifest(folder, manifest)
    return read_artifact(folder)


def simulate(program: Program, feed: Feed) -> npt.NDArray[np.float32]:
    """The program's own output in torch."""
    with torch.no_grad():
        output: npt.NDArray[np.float32] = program.module()(*feed_tensors(feed)).numpy()
    return output


def mistuned(program: Program) -> StaticProgram:
    """A copy whose measured scales are half too large: what a file must be told apart from."""
    assert isinstance(program, StaticProgram)
    prepared = copy.deepcopy(program.prepared)
    for quantizer in activations(prepared):
        if quantizer.fixed is None:
            quantizer.scale.mul_(1.5)
    return StaticProgram(program.recipe, prepared, program.calibration)


def convolutions(recipe: str) -> int:
    """How many the tiny network has; a blend that is split computes its mask's twice."""
    return 38 if recipe == "int8-full" else 37


def infer(runtime: Runtime, artifact: Artifact, feed: Feed) -> npt.NDArray[np.float32]:
    """The file's output on this machine."""
    with runtime.open(artifact, threads=1) as runner:
        return runner.infer(feed)[OUTPUT]
