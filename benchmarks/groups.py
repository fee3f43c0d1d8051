"""Which artifacts are timed against each other, and reusing a comparison already made."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.candidate import Opener
from benchmarks.identity import key_of, source_sha256
from benchmarks.latency import Protocol, measure
from benchmarks.results import Comparison, read_comparison, write_result
from dfnet.artifact import Artifact
from dfnet.console import Progress
from dfnet.profiles import Resolution
from dfnet.signature import Feed
from export.sdk_log import sdk_log

_SOURCES = ("benchmarks/latency.py", "benchmarks/timing.py", "benchmarks/hostload.py")


@dataclass(frozen=True)
class Timed:
    """One comparison, what it is of, and whether it was found on disk."""

    name: str
    comparison: Comparison
    reused: bool


@dataclass(frozen=True)
class TimingRequest:
    """How to time: ``feed`` gives the inputs at a resolution; ``reuse`` takes kept comparisons of
    the same files under the same protocol."""

    folder: Path
    feed: Callable[[Resolution], Feed]
    protocol: Protocol
    threads: int
    reuse: bool
    log: Path


def time_all(
    artifacts: Sequence[Artifact], request: TimingRequest, progress: Progress
) -> tuple[Timed, ...]:
    """Times every group of comparable artifacts; each must be able to run here.

    Raises:
        ArtifactError: a file cannot be loaded, or results cannot be written.
    """
    return tuple(_time(name, group, request, progress) for name, group in _groups(artifacts))


def _groups(artifacts: Sequence[Artifact]) -> Iterator[tuple[str, list[Artifact]]]:
    groups: dict[str, list[Artifact]] = {}
    for artifact in sorted(artifacts, key=lambda a: a.id):
        m = artifact.manifest
        name = f"{m.platform}-{m.runtime}-{m.backend}-{m.resolution}"
        groups.setdefault(name, []).append(artifact)
    yield from groups.items()


def _time(
    name: str, group: Sequence[Artifact], request: TimingRequest, progress: Progress
) -> Timed:
    path = request.folder / f"{name}.{request.protocol.name}.latency.json"
    key = _key(group, request)
    kept = read_comparison(path) if request.reuse else None
    if kept is not None and kept.key == key:
        return Timed(name, kept, reused=True)
    with progress.step(f"Time {name} ({request.protocol.name})"), sdk_log(request.log):
        results = measure(
            group,
            request.feed(group[0].manifest.resolution),
            Opener(request.threads),
            protocol=request.protocol,
            threads=request.threads,
        )
    comparison = Comparison(key, results)
    write_result(path, comparison)
    return Timed(name, comparison, reused=False)


def _key(group: Sequence[Artifact], request: TimingRequest) -> str:
    return key_of(
        [artifact.manifest.artifact_sha256 for artifact in group],
        asdict(request.protocol),
        request.threads,
        source_sha256(_SOURCES),
        platform.machine(),
        platform.node(),
        os.cpu_count(),
    )
