"""Exports, checks and times everything a comparison needs; what did not change is reused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.checks import check_all
from benchmarks.groups import TimingRequest, time_all
from benchmarks.latency import Protocol
from benchmarks.mosaic import fill_frame
from benchmarks.peers import peak
from benchmarks.peers.comparison import OURS, RECIPES, UNFUSED, Comparison, compare
from benchmarks.request import Request
from benchmarks.results import Comparison as TimedFiles
from benchmarks.results import all_checks
from benchmarks.rows import build_rows
from dfnet.artifact import Artifact
from dfnet.captureset import CaptureSet
from dfnet.checkpoint import Checkpoint, load_factory
from dfnet.console import Progress
from dfnet.errors import ArtifactError
from dfnet.profiles import Resolution
from dfnet.signature import Feed
from dfnet.tensors import example_inputs
from export import load_runtime
from export.build_report import BuildReport
from export.pipeline import BuildRequest, build
from export.plan import Selection
from export.sdk_log import sdk_log
from export.variants import RUNTIMES as ALL_RUNTIMES
from quantize.dataflow import CONVOLUTIONS, macs

RUNTIMES = ("litert", "executorch", "onnx")
"""Those that run on this machine, in the order of the table."""

_PEAK_RECIPE = "int8-naive"
_PEAK_FACTORY = "benchmarks.peers.peak:make"


@dataclass(frozen=True)
class PeersRequest:
    """What to compare, with which captures, where, and how to time."""

    runtimes: tuple[str, ...]
    resolution: Resolution
    checkpoint: Checkpoint
    calibration: CaptureSet
    captures: CaptureSet
    output: Path
    protocol: Protocol
    threads: int
    log: Path


def measure(request: PeersRequest, progress: Progress) -> tuple[Comparison, ...]:
    """A comparison per runtime.

    Raises:
        ArtifactError: a file could not be made; the reason is that of the build.
        DFNetError: see ``build``, ``check_all`` and ``time_all``.
    """
    checkpoint, folder = request.checkpoint, request.output
    work = network_macs(checkpoint.network, request.resolution)
    return tuple(
        _comparison(runtime, request, folder, work, progress) for runtime in request.runtimes
    )


def _comparison(
    runtime: str, request: PeersRequest, folder: Path, work: int, progress: Progress
) -> Comparison:
    recipes = [recipe for recipe in (*RECIPES, UNFUSED) if recipe in _offered(runtime)]
    selection = Selection("android", (request.resolution,), (runtime,), tuple(recipes))
    built = _built(selection, request.checkpoint, request, folder, progress)
    files = tuple(file for file in built if not _is_hopeless(file))
    check_all(files, _checks(request), progress)
    timed = _timed(files, request, folder, progress)
    rows = build_rows(files, all_checks(folder / "results"), timed)
    return compare(
        rows,
        network_macs=work,
        peak=_peak(runtime, request, progress),
        profile_ms=_profile(runtime, files, request, progress),
    )


def _profile(
    runtime: str, files: Sequence[Artifact], request: PeersRequest, progress: Progress
) -> dict[str, float] | None:
    """Of our int8 file, after the timed runs: recording costs time."""
    ours = next(file for file in files if file.manifest.recipe["name"] == OURS)
    with progress.step(f"Profile {runtime}", counts=False), sdk_log(request.log):
        feed = _feeds(request.captures)(request.resolution)
        return load_runtime(runtime).profile(ours, feed, threads=request.threads)


def _is_hopeless(file: Artifact) -> bool:
    """An unfused file whose convolutions are off the delegate: it takes minutes to time."""
    delegation = file.manifest.delegation
    unfused = file.manifest.recipe["name"] == UNFUSED
    return unfused and delegation is not None and delegation.undelegated_convolutions > 0


def _offered(runtime: str) -> set[str]:
    return {v.recipe for v in ALL_RUNTIMES[runtime].variants if v.platform == "android"}


def _peak(runtime: str, request: PeersRequest, progress: Progress) -> float | None:
    """GMAC/s of int8 matrix products in ``runtime``."""
    folder = request.output / "peak"
    selection = Selection("android", (peak.RESOLUTION,), (runtime,), (_PEAK_RECIPE,))
    checkpoint = load_factory(_PEAK_FACTORY, None)
    (file,) = _built(selection, checkpoint, request, folder, progress)
    (timed,) = _timed((file,), request, folder, progress)
    median = timed.results[file.manifest.artifact_sha256].median_ms
    work = network_macs(checkpoint.network, peak.RESOLUTION)
    return None if median is None else work / 1e6 / median


def _built(
    selection: Selection,
    checkpoint: Checkpoint,
    request: PeersRequest,
    folder: Path,
    progress: Progress,
) -> tuple[Artifact, ...]:
    report = build(BuildRequest(selection, checkpoint, request.calibration, folder), progress)
    return tuple(_artifacts(report))


def _artifacts(report: BuildReport) -> Iterator[Artifact]:
    for row in report.rows:
        if row.artifact is None:
            raise ArtifactError(f"Peers: {row.job} {row.status}: {row.reason}")
        yield row.artifact


def _checks(request: PeersRequest) -> Request:
    return Request(
        folder=request.output,
        log=request.log,
        captures=request.captures,
        checkpoint=lambda: request.checkpoint,
        calibration=lambda: request.calibration,
        threads=request.threads,
    )


def _timed(
    files: Sequence[Artifact], request: PeersRequest, folder: Path, progress: Progress
) -> tuple[TimedFiles, ...]:
    timing = TimingRequest(
        folder=folder / "results",
        feed=_feeds(request.captures),
        protocol=request.protocol,
        threads=request.threads,
        reuse=True,
        log=request.log,
    )
    return tuple(one.comparison for one in time_all(files, timing, progress))


def _feeds(captures: CaptureSet) -> Callable[[Resolution], Feed]:
    def feed(resolution: Resolution) -> Feed:
        return fill_frame(tuple(captures), resolution)[0].feed

    return feed


def network_macs(network: nn.Module, resolution: Resolution) -> int:
    """Multiply-accumulates of all convolutions of one inference at ``resolution``."""
    with torch.no_grad():
        graph = torch.export.export(network.eval(), example_inputs(resolution)).graph
    return sum(macs(node) for node in graph.nodes if node.target in CONVOLUTIONS)
