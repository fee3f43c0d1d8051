"""Has a file become slower, larger or worse than its baseline?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.baseline import Found, Measured
from benchmarks.verdict import PASSED, Verdict, combine, failed, not_run
from dfnet.errors import MetricError

SLOWER_LINE = 1.05
"""A headline over this part of the baseline's is a regression (docs/measuring.md)."""

LARGER_LINE = 1.05
"""Bytes over this part of the baseline's."""

DROP_LINE_DB = 0.02
"""Decibels by which a drop may grow: a fifth of the bar on the drop itself."""

CONFIDENCE = 0.95
_DRAWS = 4000
_BLOCK = 1_000_000
"""Samples drawn at once."""


@dataclass(frozen=True)
class Interval:
    """A ratio of medians and its bootstrap confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Regression:
    """One file on one device against its baseline; ``time`` is None when it was not compared."""

    name: str
    checks: dict[str, Verdict]
    time: Interval | None
    changes: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        return combine(self.checks)


def compare(baseline: Measured, current: Found) -> Regression:
    """Holds ``current`` against ``baseline``.

    Raises:
        MetricError: the runs are not alike; names what differs.
    """
    now = current.measured
    difference = now.setting.difference(baseline.setting)
    if difference is not None:
        raise MetricError(
            f"{now.name}: got {difference}, needed them alike. Measure as the baseline was, or "
            "accept a new one: make baseline"
        )
    time = time_ratio(baseline.repeats_ms, now.repeats_ms)
    checks = {
        now.setting.unit: _judge_time(time, current.invalid_reasons),
        "artifact_bytes": _judge_bytes(baseline, now),
        "drop_db": _judge_drop(baseline, now),
    }
    return Regression(now.name, checks, time, _changes(baseline, now, time))


def missing(baseline: Measured) -> Regression:
    """The regression of a baseline that nothing was measured for."""
    reason = not_run("not measured; time it and compare again")
    return Regression(baseline.name, {baseline.setting.unit: reason}, None, ())


def refused(baseline: Measured, error: MetricError) -> Regression:
    """The regression of a baseline whose file was measured in an unlike way."""
    return Regression(baseline.name, {baseline.setting.unit: not_run(str(error))}, None, ())


def time_ratio(
    baseline_ms: Sequence[Sequence[float]], current_ms: Sequence[Sequence[float]]
) -> Interval:
    """The headline (median of the repeats' medians) over the baseline's, with its interval.

    The bootstrap draws repeats, and samples within each of them, since the samples of one process
    are more alike than those of two. It is seeded: equal runs give equal verdicts.

    Raises:
        MetricError: a side has no repeats, an empty one, or times that are not over 0 and finite.
    """
    for side in (baseline_ms, current_ms):
        if not side or not all(len(one) and np.isfinite(one).all() for one in side):
            raise MetricError("Times to compare: got none or not finite, needed every repeat's.")
        if min(min(one) for one in side) <= 0:
            raise MetricError("Times to compare: got one of 0 ms or less, needed all over 0.")
    generator = np.random.default_rng(0)
    drawn = _headlines(current_ms, generator) / _headlines(baseline_ms, generator)
    outside = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, (outside, 100 - outside))
    return Interval(_headline(current_ms) / _headline(baseline_ms), float(low), float(high))


def _headline(repeats: Sequence[Sequence[float]]) -> float:
    return float(np.median([np.median(one) for one in repeats]))


def _headlines(
    repeats: Sequence[Sequence[float]], generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """The headline of each draw."""
    medians = np.stack([_medians(np.asarray(one), generator) for one in repeats])
    picks = generator.integers(len(repeats), size=medians.shape)
    drawn: npt.NDArray[np.float64] = np.median(np.take_along_axis(medians, picks, axis=0), axis=0)
    return drawn


def _medians(
    samples: npt.NDArray[np.float64], generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    # In blocks: thousands of samples times thousands of draws would not fit the memory.
    size = len(samples)
    block = max(1, _BLOCK // size)
    medians = [
        np.median(samples[generator.integers(size, size=(min(block, _DRAWS - done), size))], axis=1)
        for done in range(0, _DRAWS, block)
    ]
    return np.concatenate(medians)


def _judge_time(time: Interval, invalid_reasons: Sequence[str]) -> Verdict:
    if invalid_reasons:
        return not_run(f"INVALID ({'; '.join(invalid_reasons)})")
    if time.value <= SLOWER_LINE:
        return PASSED
    told = f"{time} of the baseline's time, needed at most {SLOWER_LINE}"
    if time.low > 1:
        return failed(told)
    return not_run(f"{told}; the interval holds 1, so measure again on a quieter device")


def _judge_bytes(baseline: Measured, now: Measured) -> Verdict:
    ratio = now.artifact_bytes / baseline.artifact_bytes
    if ratio <= LARGER_LINE:
        return PASSED
    return failed(f"{ratio:.3f} of the baseline's bytes, needed at most {LARGER_LINE}")


def _judge_drop(baseline: Measured, now: Measured) -> Verdict:
    if baseline.drop_db is None:
        return PASSED if now.drop_db is None else not_run("the baseline has no drop_db")
    if now.drop_db is None:
        return not_run("no picture was compared")
    growth = now.drop_db - baseline.drop_db
    if growth <= DROP_LINE_DB:
        return PASSED
    return failed(f"drop grew by {growth:.3f} dB, needed at most {DROP_LINE_DB} dB")


def _changes(baseline: Measured, now: Measured, time: Interval) -> tuple[str, ...]:
    """What is different, in words; what is equal is left out."""
    before, after = (_headline(one.repeats_ms) for one in (baseline, now))
    lines = [f"{now.setting.unit} {before:.3f} -> {after:.3f} ({time})"]
    if now.artifact_bytes != baseline.artifact_bytes:
        change = now.artifact_bytes - baseline.artifact_bytes
        lines.append(f"{now.artifact_bytes} bytes ({change:+d})")
    for name, unit in (("psnr_db", " dB"), ("drop_db", " dB"), ("latency_ratio", "")):
        was, is_ = getattr(baseline, name), getattr(now, name)
        if was is not None and is_ is not None and was != is_:
            lines.append(f"{name} {was:.3f} -> {is_:.3f} ({is_ - was:+.3f}{unit})")
    if now.artifact_sha256 != baseline.artifact_sha256:
        lines.append(f"another file ({now.artifact_sha256[:12]})")
    return tuple(lines)
