"""A phone's latency: cold repeats, each under conditions that are known (docs/measuring.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from android_harness.conditions import (
    Conditions,
    fixed_performance,
    read_conditions,
    wait_until_fit,
)
from android_harness.facts import DeviceIdentity
from android_harness.job_result import JobRepeat, JobResult
from android_harness.runner import AndroidRunner
from dfnet.errors import UnsupportedError
from dfnet.signature import Feed


@dataclass(frozen=True)
class Amount:
    """What one process is asked: at least ``runs`` inferences and ``seconds`` of them.

    ``burst`` counts time spent in inferences, ``sustained`` time on the clock.
    """

    repeats: int
    warmups: int
    runs: int
    seconds: float
    mode: Literal["burst", "sustained"] = "burst"


@dataclass(frozen=True)
class ColdRepeat:
    """One process, and the conditions before and after it."""

    times: JobRepeat
    before: Conditions
    after: Conditions


@dataclass(frozen=True)
class Measurement:
    """``result`` is the last process's answer: the runner, its accelerator, threads and cores.

    ``peak_memory_mb`` is of a process of its own that timed nothing. ``fixed_performance`` tells
    whether the phone held its clocks.
    """

    identity: DeviceIdentity
    result: JobResult
    repeats: tuple[ColdRepeat, ...]
    peak_memory_mb: float | None
    fixed_performance: bool

    def invalid_reasons(self) -> tuple[str, ...]:
        """What was wrong around any repeat, each reason once; empty when nothing was."""
        states = [state for one in self.repeats for state in (one.before, one.after)]
        return tuple(dict.fromkeys(reason for state in states for reason in state.complaints()))


def measure(
    runner: AndroidRunner,
    feed: Feed,
    amount: Amount,
    *,
    patience_s: float = 600.0,
    say: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Times ``feed`` in ``amount.repeats`` processes, waiting before each until the phone is fit.

    A phone that is not fit after ``patience_s`` is timed all the same; the result says so.

    Raises:
        UnsupportedError: it is an emulator, whose time is no latency; or no repeat is asked for.
        DeviceError: see ``AndroidRunner.run``.
    """
    if runner.device.kind != "device":
        raise UnsupportedError(
            f"Latency: got the {runner.device.kind} {runner.device.name}, needed a phone. Time "
            "there is not latency."
        )
    if amount.repeats < 1:
        raise UnsupportedError(f"Latency: got {amount.repeats} repeats, needed at least 1.")
    memory = runner.run(feed, mode="memory").result.peak_memory_mb
    repeats = []
    with fixed_performance(runner.transport) as held:
        for _ in range(amount.repeats):
            before = wait_until_fit(
                lambda: read_conditions(runner.transport), patience_s=patience_s, say=say
            )
            result = runner.run(
                feed,
                mode=amount.mode,
                warmups=amount.warmups,
                runs=amount.runs,
                seconds=amount.seconds,
            ).result
            (times,) = result.repeats or ()
            repeats.append(ColdRepeat(times, before, read_conditions(runner.transport)))
    return Measurement(runner.identity, result, tuple(repeats), memory, held)
