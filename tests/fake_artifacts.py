"""Artifacts of the fake runtime, written straight to disk without exporting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from dfnet.artifact import Artifact, bytes_of, sha256_of, staged_folder, write_manifest
from dfnet.manifest import Delegation, Manifest
from dfnet.profiles import Resolution
from quantize.recipe import find_recipe

CHECKPOINT_SHA256 = "c" * 64
FRAME = Resolution(64, 64)


def write_artifact(
    output: Path,
    network: nn.Module,
    *,
    recipe: str = "fp32",
    platform: str = "android",
    resolution: Resolution = FRAME,
    runtime: str = "fake",
    checkpoint_sha256: str = CHECKPOINT_SHA256,
    calibration_sha256: str | None = None,
    undelegated: int = 0,
    padding: int = 0,
    facts: dict[str, Any] | None = None,
) -> Artifact:
    """A ``model.fake`` holding ``network`` and ``padding`` more bytes, with its manifest."""
    target = output / platform / f"{runtime}-cpu-{recipe}-{resolution}"
    with staged_folder(target) as folder:
        file = folder / "model.fake"
        torch.save(network, file)
        with file.open("ab") as stream:
            stream.write(b"\0" * padding)
        manifest = Manifest(
            runtime=runtime,
            backend="cpu",
            precision=find_recipe(recipe).precision,
            platform=platform,
            resolution=resolution,
            inputs=(),
            outputs=(),
            checkpoint_sha256=checkpoint_sha256,
            recipe=find_recipe(recipe).to_json(),
            calibration_sha256=calibration_sha256,
            build_key="b" * 64,
            artifact_file=file.name,
            artifact_sha256=sha256_of(file),
            artifact_bytes=bytes_of(file),
            tool_versions={},
            delegation=Delegation(1, undelegated, {"fake": {"conv2d": 9}}),
            facts={"quantized_by": runtime, **(facts or {})},
        )
        write_manifest(folder, manifest)
    return Artifact(target, manifest)
