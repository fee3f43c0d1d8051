"""What ``python -m benchmarks import`` does: take results measured on devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.device_results import DeviceLatency, keep, read_device_latency, result_path
from benchmarks.selection import read_artifacts
from dfnet.artifact import Artifact
from dfnet.console import EXIT_OK, results_console
from dfnet.errors import ArtifactError
from export.variants import PLATFORMS

_LISTED = 12
"""Exported files that an error lists at most."""


def import_results(paths: Sequence[Path], output: Path) -> int:
    """Keeps results for the artifacts in ``output``; all are checked before one is written.

    Raises:
        ArtifactError: a result that breaks the protocol, or is of no artifact in ``output``.
        DeviceError: the runner reports a failure.
        UnsupportedError: an emulator or a simulator ran.
    """
    artifacts = read_artifacts(output)
    targets: dict[Path, tuple[Path, Artifact, DeviceLatency]] = {}
    for path in paths:
        found = read_device_latency(path)
        artifact = _artifact_of(found, path, artifacts, output)
        target = result_path(output / "results", artifact, found)
        if target in targets:
            raise ArtifactError(
                f"Result {path}: got the same file, device and accelerator as in "
                f"{targets[target][0]}, needed each once. Give one of the two."
            )
        targets[target] = path, artifact, found
    for target, (_, _, found) in targets.items():
        keep(target, found)
    _say([(artifact, found) for _, artifact, found in targets.values()])
    return EXIT_OK


def _artifact_of(
    found: DeviceLatency, path: Path, artifacts: Sequence[Artifact], output: Path
) -> Artifact:
    for artifact in artifacts:
        if artifact.manifest.artifact_sha256 != found.artifact_sha256:
            continue
        if artifact.manifest.entry is not None:
            raise ArtifactError(
                f"Result {path}: got one of the bundle {artifact.folder.name}, needed one of a "
                "file of one resolution, since a result does not say which it ran. Measure that "
                "file."
            )
        return artifact
    there = [f"{one.id} {one.manifest.artifact_sha256[:12]}" for one in artifacts]
    more = [f"and {len(there) - _LISTED} more"] if len(there) > _LISTED else []
    exports = " or ".join(f"`make export-{platform}`" for platform in PLATFORMS)
    raise ArtifactError(
        f"Result {path}: got artifact_sha256 {found.artifact_sha256[:12]}, needed that of a file "
        f"in {output} ({', '.join(there[:_LISTED] + more) or 'none there'}). Export with {exports} "
        "and measure that very file."
    )


def _say(imported: Sequence[tuple[Artifact, DeviceLatency]]) -> None:
    console = results_console()
    for artifact, found in imported:
        device, latency = found.facts.device, found.latency
        console.print(
            f"{artifact.id} on {device.name} ({device.kind}, {device.os} {device.os_version}), "
            f"{found.units}: median {latency.median_ms:.2f} ms, {latency.validity}",
            markup=False,
        )
    console.print("See the rows with: python -m benchmarks report", markup=False)
