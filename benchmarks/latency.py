"""Latency of artifacts on one machine, interleaved so that a ratio compares like with like.

Artifacts of one runtime, backend and resolution are timed in turn, a small batch each, round
after round, so that a slow moment of the machine hits all of them. The full protocol repeats that
in fresh processes. A host's milliseconds are never a phone's: only ratios are reported, and no
host can pass or fail a latency budget.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from benchmarks.hostload import LoadMark
from benchmarks.timing import LatencyResult, Repeat
from dfnet.artifact import Artifact
from dfnet.errors import MetricError
from dfnet.profiles import Precision
from dfnet.runner import Device, Runner, Timings
from dfnet.signature import Feed


@dataclass(frozen=True)
class Protocol:
    """How often to time. Each repeat runs until it has ``runs`` samples and ``seconds`` of them.

    ``batch`` is the number of timed runs before the next artifact's turn; one untimed run
    precedes each batch, to refill the caches. ``cold`` repeats run in processes of their own. An
    artifact whose first inference takes over ``slowest_ms`` is not timed further.
    """

    name: str
    repeats: int
    cold: bool
    warmups: int
    runs: int
    seconds: float
    batch: int
    slowest_ms: float


FULL = Protocol("full", 3, True, warmups=5, runs=50, seconds=1.0, batch=5, slowest_ms=30_000)
"""What ``make bench`` does: at least three cold repeats of five warm-ups and fifty runs."""

QUICK = Protocol("quick", 3, False, warmups=1, runs=3, seconds=0.0, batch=3, slowest_ms=5_000)
"""What exporting does to show a ratio within a minute: one process, three rounds."""

PROTOCOLS = {protocol.name: protocol for protocol in (FULL, QUICK)}

Opener = Callable[[Artifact], Runner]
"""Opens an artifact for timing; must be picklable for cold repeats."""


def measure(
    artifacts: Sequence[Artifact], feed: Feed, opener: Opener, *, protocol: Protocol, threads: int
) -> dict[str, LatencyResult]:
    """Times artifacts of one runtime, backend and resolution; results by artifact sha256.

    ``feed`` is the inputs at their resolution; ``threads`` is what ``opener`` opens them with.
    ``latency_ratio`` is over the fp32 artifact among them, and None when there is none.

    Raises:
        MetricError: no artifacts, or artifacts that must not be compared with each other.
    """
    _require_comparable(artifacts)
    repeats = _cold if protocol.cold else _warm
    rounds = repeats(artifacts, feed, opener, protocol)
    device = next(iter(rounds[0].values())).device
    return _results(artifacts, rounds, device, protocol, threads)


def _require_comparable(artifacts: Sequence[Artifact]) -> None:
    kinds = {
        (a.manifest.runtime, a.manifest.backend, str(a.manifest.resolution)) for a in artifacts
    }
    if len(kinds) != 1:
        raise MetricError(
            f"Latency: got artifacts of {sorted(kinds) or 'no kind'}, needed one runtime, backend "
            "and resolution per comparison. Compare them in groups."
        )


Round = dict[str, Repeat]
"""One repeat of every artifact, by sha256."""


def _warm(
    artifacts: Sequence[Artifact], feed: Feed, opener: Opener, protocol: Protocol
) -> list[Round]:
    with ExitStack() as stack:
        runners = {a.manifest.artifact_sha256: stack.enter_context(opener(a)) for a in artifacts}
        return [interleave(runners, feed, protocol) for _ in range(protocol.repeats)]


def _cold(
    artifacts: Sequence[Artifact], feed: Feed, opener: Opener, protocol: Protocol
) -> list[Round]:
    context = multiprocessing.get_context("spawn")
    work = partial(_cold_round, tuple(artifacts), dict(feed), opener, protocol)
    rounds = []
    for _ in range(protocol.repeats):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            rounds.append(pool.submit(work).result())
    return rounds


def _cold_round(
    artifacts: tuple[Artifact, ...], feed: Feed, opener: Opener, protocol: Protocol
) -> Round:
    with ExitStack() as stack:
        runners = {a.manifest.artifact_sha256: stack.enter_context(opener(a)) for a in artifacts}
        return interleave(runners, feed, protocol)


def interleave(runners: Mapping[str, Runner], feed: Feed, protocol: Protocol) -> Round:
    """One repeat: warms every runner up, then times a batch of each in turn until all have enough.

    Raises:
        MetricError: there are no runners.
    """
    if not runners:
        raise MetricError("Latency: got no runners, needed at least one.")
    start = LoadMark.now()
    warm = {
        key: runner.time(feed, warmup=0, runs=protocol.warmups) for key, runner in runners.items()
    }
    samples: dict[str, list[float]] = {key: [] for key in runners}
    while waiting := [
        key
        for key in runners
        if warm[key].first_ms <= protocol.slowest_ms and not _enough(samples[key], protocol)
    ]:
        for key in waiting:
            timings = runners[key].time(feed, warmup=0, runs=protocol.batch)
            samples[key].extend(timings.samples_ms)
    others = start.other_cpus(LoadMark.now())
    return {
        key: _repeat(runner.device, warm[key], samples[key], others)
        for key, runner in runners.items()
    }


def _enough(samples: Sequence[float], protocol: Protocol) -> bool:
    return len(samples) >= protocol.runs and sum(samples) >= protocol.seconds * 1e3


def _repeat(device: Device, warm: Timings, samples: Sequence[float], others: float) -> Repeat:
    return Repeat(
        device=device,
        accelerator=warm.accelerator,
        load_ms=warm.load_ms,
        first_ms=warm.first_ms,
        warmup_ms=warm.samples_ms,
        samples_ms=tuple(samples),
        other_cpus=others,
    )


def _results(
    artifacts: Sequence[Artifact],
    rounds: Sequence[Round],
    device: Device,
    protocol: Protocol,
    threads: int,
) -> dict[str, LatencyResult]:
    results = {}
    for artifact in artifacts:
        sha256 = artifact.manifest.artifact_sha256
        repeats = tuple(one[sha256] for one in rounds)
        results[sha256] = LatencyResult(sha256, device, protocol.name, threads, repeats)
    floats = [a for a in artifacts if a.manifest.precision is Precision.FP32]
    if not floats:
        return results
    baseline = results[floats[0].manifest.artifact_sha256]
    return {sha256: result.against(baseline) for sha256, result in results.items()}
