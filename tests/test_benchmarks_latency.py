from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from torch import nn

from benchmarks.hostload import LoadMark, available_cpus, default_threads
from benchmarks.latency import FULL, QUICK, Protocol, interleave, measure
from benchmarks.results import Comparison, read_comparison, write_result
from benchmarks.timing import LatencyResult, Repeat
from dfnet.artifact import Artifact
from dfnet.errors import MetricError
from dfnet.model import DFNet
from dfnet.runner import Device, Timings
from dfnet.signature import Feed

from fake_artifacts import write_artifact
from fakes import FakeRunner

HOST = Device("host", "fake")
SHORT = Protocol("quick", 2, False, warmups=2, runs=4, seconds=0, batch=2, slowest_ms=1000)
COLD = replace(SHORT, name="full", cold=True)


class ListedRunner(FakeRunner):
    """Notes in a shared list when it is timed."""

    def __init__(
        self, network: nn.Module, name: str, turns: list[str], *, first_ms: float = 5.0
    ) -> None:
        super().__init__(network)
        self._name, self._turns, self._first_ms = name, turns, first_ms

    def time(self, feed: Feed, *, warmup: int, runs: int) -> Timings:
        self._turns.append(f"{self._name}x{runs}")
        timings = super().time(feed, warmup=warmup, runs=runs)
        return replace(timings, first_ms=self._first_ms)


@dataclass(frozen=True)
class PidOpener:
    """Opens a runner whose only sample is the number of its process."""

    network: nn.Module

    def __call__(self, artifact: Artifact) -> FakeRunner:
        speed = 4.0 if artifact.manifest.precision == "fp32" else 2.0
        samples = (float(os.getpid()),) if artifact.manifest.backend == "pid" else (speed,)
        return FakeRunner(self.network, samples_ms=samples)


def repeat(*samples_ms: float, device: Device = HOST, other_cpus: float = 0.0) -> Repeat:
    return Repeat(device, "fake", 1.0, 5.0, (2.0,), samples_ms, other_cpus)


def result(
    *repeats: Repeat, device: Device = HOST, budget_ms: float | None = None
) -> LatencyResult:
    return LatencyResult("a" * 64, device, "full", 1, repeats, budget_ms=budget_ms)


@pytest.fixture
def pair(tmp_path: Path, tiny_network: DFNet) -> tuple[Artifact, Artifact]:
    return (
        write_artifact(tmp_path, tiny_network),
        write_artifact(tmp_path, tiny_network, recipe="int8", padding=1),
    )


def test_artifacts_take_turns(tiny_network: DFNet, feed: Feed) -> None:
    turns: list[str] = []
    runners = {name: ListedRunner(tiny_network, name, turns) for name in ("fp32", "int8")}
    one = interleave(runners, feed, SHORT)
    assert turns == ["fp32x2", "int8x2", *["fp32x2", "int8x2"] * 2]
    for measured in one.values():
        assert len(measured.samples_ms) == 4
        assert len(measured.warmup_ms) == 2
        assert (measured.load_ms, measured.first_ms) == (1.0, 5.0)


def test_a_runner_that_is_too_slow_is_not_timed_on(tiny_network: DFNet, feed: Feed) -> None:
    turns: list[str] = []
    runners = {
        "fp32": ListedRunner(tiny_network, "fp32", turns),
        "slow": ListedRunner(tiny_network, "slow", turns, first_ms=5000.0),
    }
    one = interleave(runners, feed, SHORT)
    assert turns.count("slowx2") == 1
    slow = result(one["slow"])
    assert slow.median_ms is None
    assert slow.validity == "INVALID (too slow: the first inference took 5.0 s)"
    assert slow.against(result(one["fp32"])).latency_ratio is None


def test_runs_and_seconds_must_both_be_met(tiny_network: DFNet, feed: Feed) -> None:
    protocol = replace(SHORT, seconds=0.021)
    one = interleave({"fp32": FakeRunner(tiny_network, samples_ms=(3.0,))}, feed, protocol)
    assert len(one["fp32"].samples_ms) == 8


def test_no_runners_is_an_error(feed: Feed) -> None:
    with pytest.raises(MetricError, match="no runners"):
        interleave({}, feed, SHORT)


def test_ratio_is_over_fp32_of_the_same_run(
    pair: tuple[Artifact, Artifact], tiny_network: DFNet, feed: Feed
) -> None:
    found = measure(pair, feed, PidOpener(tiny_network), protocol=SHORT, threads=1)
    fp32, int8 = (found[artifact.manifest.artifact_sha256] for artifact in pair)
    assert (fp32.latency_ratio, int8.latency_ratio) == (1.0, 0.5)
    alone = measure(pair[1:], feed, PidOpener(tiny_network), protocol=SHORT, threads=1)
    assert alone[int8.artifact_sha256].latency_ratio is None


def test_unlike_artifacts_are_not_compared(
    pair: tuple[Artifact, Artifact], tiny_network: DFNet, feed: Feed
) -> None:
    fp32, int8 = pair
    other = Artifact(int8.folder, replace(int8.manifest, backend="gpu"))
    opener = PidOpener(tiny_network)
    for artifacts in ((fp32, other), ()):
        with pytest.raises(MetricError, match="needed one runtime, backend"):
            measure(artifacts, feed, opener, protocol=SHORT, threads=1)


@pytest.mark.serial
def test_cold_repeats_run_in_processes_of_their_own(
    pair: tuple[Artifact, Artifact], tiny_network: DFNet, feed: Feed
) -> None:
    artifact = Artifact(pair[0].folder, replace(pair[0].manifest, backend="pid"))
    found = measure([artifact], feed, PidOpener(tiny_network), protocol=COLD, threads=1)
    processes = [set(one.samples_ms) for one in found[artifact.manifest.artifact_sha256].repeats]
    assert all(len(process) == 1 for process in processes)
    assert len(set.union({float(os.getpid())}, *processes)) == 3


def test_the_full_protocol_is_the_written_one() -> None:
    assert FULL.cold
    assert FULL.repeats >= 3
    assert FULL.warmups >= 5
    assert FULL.runs >= 50
    assert FULL.seconds >= 1
    assert not QUICK.cold


def test_headline_is_the_median_of_the_repeats_medians() -> None:
    measured = result(repeat(1, 2, 9), repeat(3, 4, 5), repeat(6, 6, 6))
    figures = measured.statistics()
    assert measured.median_ms == figures["median_ms"] == 4
    assert figures["min_ms"] == 1
    assert figures["spread"] == pytest.approx((6 - 2) / 4)
    assert set(figures) >= {"p5_ms", "p90_ms", "p95_ms", "std_ms", "cv"}
    assert len(measured.samples_ms) == 9


@pytest.mark.parametrize(
    ("repeats", "words"),
    [
        ([repeat(10, 10), repeat(10, 10)], "VALID"),
        ([repeat(10, 10), repeat(12, 12)], "repeats spread by 18%"),
        ([repeat(10, 10, 30), repeat(10, 10, 30)], "samples vary by"),
        ([repeat(10), repeat(10, other_cpus=64.0)], "other programs used 64.0 of"),
    ],
)
def test_unsteady_measurements_are_invalid(repeats: list[Repeat], words: str) -> None:
    validity = result(*repeats).validity
    assert words in validity
    assert validity.startswith("VALID" if words == "VALID" else "INVALID (")


@pytest.mark.parametrize("kind", ["host", "evaluator", "emulator", "simulator"])
def test_only_a_phone_can_keep_a_budget(kind: str) -> None:
    device = Device(kind, "x")  # type: ignore[arg-type]
    assert result(repeat(1), device=device, budget_ms=33).passed is None
    phone = Device("device", "Pixel 8 Pro")
    assert result(repeat(1), device=phone, budget_ms=33).passed is True
    assert result(repeat(50), device=phone, budget_ms=33).passed is False
    assert result(repeat(50), device=phone).passed is None


def test_raw_samples_survive_the_disk(tmp_path: Path) -> None:
    kept = Comparison("key", {"a" * 64: result(repeat(1, 2, 3), repeat(2, 2, 2))})
    write_result(tmp_path / "x.latency.json", kept)
    assert read_comparison(tmp_path / "x.latency.json") == kept


def test_an_empty_result_is_an_error() -> None:
    with pytest.raises(MetricError, match="no repeats"):
        result()


def test_the_load_of_others_is_not_ours() -> None:
    start = LoadMark(wall_s=0, own_s=10, busy_s=100)
    assert start.other_cpus(LoadMark(wall_s=10, own_s=18, busy_s=113)) == pytest.approx(0.5)
    assert start.other_cpus(LoadMark(wall_s=10, own_s=30, busy_s=113)) == 0
    assert start.other_cpus(LoadMark(wall_s=10, own_s=18, busy_s=None)) >= 0
    assert LoadMark.now().own_s > 0


def test_threads_fit_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= default_threads() <= min(4, len(available_cpus()))
    many: Callable[[int], set[int]] = lambda _: set(range(64))  # noqa: E731
    monkeypatch.setattr(os, "sched_getaffinity", many, raising=False)
    assert default_threads() == 4
