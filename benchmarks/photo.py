"""What refocusing a whole photo in tiles takes: memory, time over the ideal, and seams.

Memory is that of a process of its own. The ideal time is the runner's own ``infer`` on inputs that
lie ready, timed after every tile in the same run, for as many tiles as were computed; a ratio of 1
would be a run that does nothing but infer.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.hostload import LoadMark
from benchmarks.timing import LatencyResult, Repeat
from dfnet.artifact import Artifact
from dfnet.console import Progress
from dfnet.errors import ArtifactError
from dfnet.runner import Device, Output, Runner, Timings
from dfnet.signature import Feed
from export.photo.choice import Choice
from export.photo.opening import open_runner
from export.photo.process import PhotoResult, refocus_photo
from export.photo.source import PhotoCapture


@dataclass(frozen=True)
class PhotoTimes:
    """A run's seconds over its tiles, less those of timing, against the ideal; and the samples.

    ``ratio`` is the median over the runs of ``tiles_s`` over ``ideal_s``.
    """

    tiles_s: float
    ideal_s: float
    ratio: float
    latency: LatencyResult


def measure_times(
    choice: Choice, capture: PhotoCapture, *, threads: int, runs: int, progress: Progress
) -> PhotoTimes:
    """Refocuses the photo ``runs`` times in this process, timing an inference after every tile."""
    repeats, spent, ideals = [], [], []
    for _ in range(runs):
        timed = _TimedRunner(open_runner(choice.artifact, threads=threads))
        start = LoadMark.now()
        with _scratch() as folder:
            result = refocus_photo(
                choice, capture, folder / "photo.png", partial(_itself, timed), progress
            )
        others = start.other_cpus(LoadMark.now())
        spent.append(result.tiles_s - timed.timing_s)
        ideals.append(statistics.median(timed.samples_ms) / 1e3 * result.tiles)
        repeats.append(timed.repeat(others))
    sha256 = choice.artifact.manifest.artifact_sha256
    latency = LatencyResult(sha256, repeats[0].device, "photo", threads, tuple(repeats))
    ratios = [got / ideal for got, ideal in zip(spent, ideals, strict=True)]
    return PhotoTimes(
        statistics.median(spent), statistics.median(ideals), statistics.median(ratios), latency
    )


def measure_memory(
    artifact: Artifact, capture: Path, target: str | None, *, threads: int
) -> PhotoResult:
    """One run of ``python -m export.photo`` in a process of its own.

    Raises:
        ArtifactError: it failed; repeats what it said.
    """
    with _scratch() as folder:
        options = {
            "--artifact": artifact.folder,
            "--capture": capture,
            "--threads": threads,
            "--output": folder / "photo.png",
            **({} if target is None else {"--target": target}),
        }
        arguments = [str(part) for pair in options.items() for part in pair]
        done = subprocess.run(
            [sys.executable, "-m", "export.photo", "--json", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise ArtifactError(f"Photo with {artifact.id}: failed in its own process. {last}")
    told: dict[str, Any] = json.loads(done.stdout)
    told.pop("memory_mb")
    return PhotoResult(**told)


def _itself(runner: _TimedRunner) -> Runner:
    return runner


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dfnet-photo-") as folder:
        yield Path(folder)


@dataclass
class _TimedRunner:
    """Times another inference after each, and how long that timing took in all."""

    runner: Runner
    samples_ms: list[float] = field(default_factory=list)
    timing_s: float = 0.0
    first: Timings | None = None

    @property
    def device(self) -> Device:
        return self.runner.device

    def __enter__(self) -> Self:
        self.runner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.runner.__exit__(kind, error, trace)

    def infer(self, feed: Feed) -> Output:
        output = self.runner.infer(feed)
        start = time.perf_counter()
        ready = dict(feed)
        self.first = self.first or self.time(ready, warmup=0, runs=1)
        begin = time.perf_counter()
        self.runner.infer(ready)
        end = time.perf_counter()
        self.samples_ms.append((end - begin) * 1e3)
        self.timing_s += time.perf_counter() - start
        return output

    def time(self, feed: Feed, *, warmup: int, runs: int) -> Timings:
        return self.runner.time(feed, warmup=warmup, runs=runs)

    def repeat(self, other_cpus: float) -> Repeat:
        if self.first is None:
            raise ArtifactError("Photo: got no tiles to time, needed at least one.")
        return Repeat(
            device=self.device,
            accelerator=self.first.accelerator,
            load_ms=self.first.load_ms,
            first_ms=self.first.first_ms,
            warmup_ms=(),
            samples_ms=tuple(self.samples_ms),
            other_cpus=other_cpus,
        )


def by_recipe(artifacts: Sequence[Artifact]) -> dict[str, Artifact]:
    """Artifacts by recipe name.

    Raises:
        ArtifactError: two of one recipe.
    """
    found = {artifact.manifest.recipe["name"]: artifact for artifact in artifacts}
    if len(found) != len(artifacts):
        raise ArtifactError(
            f"Artifacts {', '.join(a.id for a in artifacts)}: got two of one recipe, needed one "
            "each. Drop the others."
        )
    return found
