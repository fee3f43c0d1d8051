"""An output folder with files that were judged, and timed as told: what pages are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.checks import check_all
from benchmarks.request import Request
from benchmarks.results import Comparison, write_result
from benchmarks.selection import read_artifacts
from benchmarks.timing import LatencyResult, Repeat
from dfnet.artifact import Artifact, write_manifest
from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.checkpoint import Checkpoint
from dfnet.console import Progress
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from dfnet.runner import Device

from fake_artifacts import CHECKPOINT_SHA256, write_artifact

RECIPES = ("fp32", "int8")
_HOST = Device("host", "fake")


def write_judged(
    output: Path,
    network: DFNet,
    make_capture_set: Callable[..., CaptureSet],
    *,
    recipes: Sequence[str] = RECIPES,
    size: int = 64,
) -> tuple[Artifact, ...]:
    """Files of the fake runtime in ``output``, judged on two captures of ``size`` pixels; the
    fp32 file's manifest says that it is four times as large."""
    captures = make_capture_set(Split.HELD_OUT, 2, size)
    calibration = make_capture_set(Split.CALIBRATION, 2, size)
    for index, recipe in enumerate(recipes):
        artifact = write_artifact(
            output,
            network,
            recipe=recipe,
            resolution=Resolution(size, 2 * size),
            calibration_sha256=calibration.sha256 if recipe.startswith("int8") else None,
            padding=index,
        )
        if recipe == "fp32":
            large = replace(artifact.manifest, artifact_bytes=4 * artifact.manifest.artifact_bytes)
            write_manifest(artifact.folder, large)
    artifacts = read_artifacts(output)
    request = Request(
        folder=output,
        log=output / "log",
        captures=captures,
        checkpoint=lambda: Checkpoint(network, CHECKPOINT_SHA256, {}),
        calibration=lambda: calibration,
        threads=1,
    )
    check_all(artifacts, request, Progress())
    return artifacts


def write_times(output: Path, artifacts: Sequence[Artifact], ratios: Sequence[float]) -> None:
    """A comparison of ``artifacts`` with these latency ratios, in the results of ``output``."""
    results = {}
    for artifact, ratio in zip(artifacts, ratios, strict=True):
        sha256 = artifact.manifest.artifact_sha256
        samples = (9.9 * ratio, 10.0 * ratio, 10.3 * ratio)
        repeat = Repeat(_HOST, "fake", 1.5, 20.25, (11.0,), samples, 0.0)
        results[sha256] = LatencyResult(sha256, _HOST, "full", 2, (repeat,) * 3, ratio)
    path = output / "results" / "android-fake-cpu.full.latency.json"
    write_result(path, Comparison("key", results))
