"""Baselines: written, compared, refused when unlike, and failed when slower."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from junitparser import JUnitXml

from benchmarks.__main__ import main
from benchmarks.baseline import Found, Measured, read_baselines
from benchmarks.junit import write_junit
from benchmarks.regression import Regression, compare, missing, time_ratio
from benchmarks.results import write_text
from benchmarks.verdict import Outcome
from dfnet.artifact import Artifact, read_artifact
from dfnet.console import run_command
from dfnet.errors import ArtifactError, MetricError
from dfnet.model import DFNet

from device_files import a_device, a_repeat, a_result, write
from fake_artifacts import write_artifact
from fakes import use_fake_runtime


class Desk:
    """An output folder with an fp32 file, a folder of baselines, and the command line."""

    def __init__(self, root: Path, network: DFNet, capfd: pytest.CaptureFixture[str]) -> None:
        self.root, self.output, self.baselines = root, root / "out", root / "baselines"
        self.fp32 = write_artifact(self.output, network)
        self._capfd = capfd

    def measure(self, artifact: Artifact | None = None, *, scale: float = 1.0, **more: Any) -> None:
        """A phone's result as an import leaves it; ``scale`` slows it down."""
        samples = [scale * value for value in [20.0, 20.4] * 25]
        repeats = [a_repeat(samples_ms=samples, **more.pop("repeat", {})) for _ in range(3)]
        facts = a_device(name="Pixel 8", model="shiba", os="Android", os_version="14")
        value = a_result(artifact or self.fp32, device=facts, repeats=repeats) | more
        code, said = self.command("import", str(write(self.root / "r.json", value)))
        assert code == 0, said

    def baseline(self) -> tuple[int, str]:
        return self.command("baseline", "--baselines", str(self.baselines))

    def compare(self, *arguments: str) -> tuple[int, str]:
        return self.command("compare", "--baselines", str(self.baselines), *arguments)

    def command(self, *arguments: str) -> tuple[int, str]:
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            run_command(main, [*arguments, "--output", str(self.output)])
        assert isinstance(exit_info.value.code, int)
        return exit_info.value.code, " ".join("".join(self._capfd.readouterr()).split())


@pytest.fixture
def desk(
    tmp_path: Path,
    tiny_network: DFNet,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Desk:
    use_fake_runtime(monkeypatch)
    return Desk(tmp_path, tiny_network, capfd)


@pytest.fixture
def accepted(desk: Desk) -> Desk:
    """A desk with a baseline of its one file."""
    desk.measure()
    code, said = desk.baseline()
    assert code == 0, said
    return desk


def test_the_same_run_passes(accepted: Desk) -> None:
    code, said = accepted.compare()
    assert code == 0
    assert "Pixel 8: passed" in said
    assert "latency_ms 20.200 -> 20.200 (1.000 [" in said


def test_a_slowed_run_fails(accepted: Desk) -> None:
    accepted.measure(scale=1.08)
    code, said = accepted.compare()
    assert code == 1
    assert "Pixel 8: failed" in said
    assert "latency_ms: failed (1.080 [" in said


def test_a_faster_run_passes_and_says_so(accepted: Desk) -> None:
    accepted.measure(scale=0.995)
    code, said = accepted.compare()
    assert code == 0
    assert "latency_ms 20.200 -> 20.099 (0.995 [" in said


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"threads": 2}, "threads 2, baseline None"),
        (
            {"runner": {"name": "other", "version": "2", "abi": "arm64", "libc": None}},
            "runner other 2, arm64",
        ),
    ],
)
def test_unlike_runs_are_refused(accepted: Desk, change: dict[str, Any], told: str) -> None:
    for path in (accepted.output / "results").glob("*.device.json"):
        path.unlink()
    accepted.measure(**change)
    code, said = accepted.compare()
    assert code == 1
    assert "passed" not in said
    assert told in said


def test_an_invalid_run_is_not_compared(accepted: Desk) -> None:
    accepted.measure(repeat={"thermal_after": "serious"})
    code, said = accepted.compare()
    assert code == 1
    assert "latency_ms: not run (INVALID (thermal state serious))" in said


def test_an_invalid_run_becomes_no_baseline(desk: Desk) -> None:
    desk.measure(repeat={"thermal_after": "serious"})
    code, said = desk.baseline()
    assert code == 2
    assert "none VALID" in said
    assert not desk.baselines.exists()


def test_a_baseline_that_was_not_measured_is_not_run(accepted: Desk) -> None:
    for path in (accepted.output / "results").glob("*.device.json"):
        path.unlink()
    code, said = accepted.compare()
    assert code == 1
    assert "not run (not measured" in said


def test_without_baselines_there_is_nothing_to_pass(desk: Desk) -> None:
    desk.measure()
    code, said = desk.compare()
    assert code == 2
    assert "got none, needed at least one to compare with" in said


def test_a_new_file_is_named_but_does_not_fail(accepted: Desk, tiny_network: DFNet) -> None:
    int8 = write_artifact(accepted.output, tiny_network, recipe="int8", padding=8)
    accepted.measure(int8)
    code, said = accepted.compare()
    assert code == 0
    assert "android fake cpu int8 64x64 on Pixel 8: has no baseline yet" in said


def test_a_file_that_is_built_anew_has_the_same_baseline(accepted: Desk) -> None:
    (measured,) = read_baselines(accepted.baselines)
    assert replace(measured, artifact="built-anew", artifact_sha256="f" * 64).cell == measured.cell


def test_two_networks_of_one_kind_are_refused(accepted: Desk, tiny_network: DFNet) -> None:
    other = write_artifact(accepted.root / "other", tiny_network, padding=8)
    moved = accepted.output / "android" / "another-network"
    other.path.parent.rename(moved)
    accepted.measure(read_artifact(moved))
    code, said = accepted.compare()
    assert code == 2
    assert "Keep each network's files in an --output of their own" in said


def test_a_larger_file_fails(accepted: Desk, tiny_network: DFNet) -> None:
    larger = write_artifact(accepted.output, tiny_network, padding=1 << 20)
    accepted.measure(larger)
    code, said = accepted.compare()
    assert code == 1
    assert "artifact_bytes: failed" in said
    assert "another file" in said


def test_junit_shows_a_test_per_check(accepted: Desk) -> None:
    accepted.measure(scale=1.2)
    report = accepted.root / "compare.xml"
    code, _ = accepted.compare("--junit", str(report))
    (suite,) = list(JUnitXml.fromfile(str(report)))
    cases = {case.name: case for case in suite}
    assert code == 1
    assert (suite.tests, suite.failures) == (3, 1)
    assert "needed at most 1.05" in cases["latency_ms"].result[0].message
    assert not cases["artifact_bytes"].result


def test_junit_never_counts_what_was_not_run_as_passed(accepted: Desk, tmp_path: Path) -> None:
    (baseline,) = read_baselines(accepted.baselines)
    write_junit(tmp_path / "x.xml", [missing(baseline)], title="compare")
    (suite,) = list(JUnitXml.fromfile(str(tmp_path / "x.xml")))
    assert (suite.tests, suite.skipped, suite.failures) == (1, 1, 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": 2}, "schema: got 2"),
        ({"repeats_ms": []}, "at least one repeat"),
        ({"repeats_ms": [[20.0, 0.0]]}, "all over 0 ms"),
        ({"drop_db": float("nan")}, "a finite number"),
        ({"surplus": 1}, "unknown field 'surplus'"),
    ],
)
def test_a_spoilt_baseline_is_refused(accepted: Desk, change: dict[str, Any], told: str) -> None:
    (path,) = accepted.baselines.glob("*.json")
    write_text(path, json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match=told):
        read_baselines(accepted.baselines)


def noisy(scale: float, seed: int, *, sigma: float) -> list[list[float]]:
    """Three repeats of 50 samples around ``scale``, each repeat with a level of its own."""
    generator = np.random.default_rng(seed)
    levels = scale * np.exp(generator.normal(0, sigma, 3))
    return [list(level * np.exp(generator.normal(0, sigma, 50))) for level in levels]


def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says() -> None:
    intervals = [
        time_ratio(noisy(1.0, 2 * i, sigma=0.02), noisy(1.1, 2 * i + 1, sigma=0.02))
        for i in range(20)
    ]
    assert sum(one.low <= 1.1 <= one.high for one in intervals) >= 15
    assert all(one.low <= one.value <= one.high for one in intervals)


def test_equal_times_give_one_whatever_their_noise() -> None:
    times = noisy(5.0, 0, sigma=0.1)
    interval = time_ratio(times, times)
    assert interval.value == 1
    assert interval.low < 1 < interval.high


@pytest.mark.parametrize("spoilt", [[], [[]], [[1.0], []], [[float("nan")]], [[0.0]], [[-1.0]]])
def test_times_that_are_none_are_refused(spoilt: Sequence[Sequence[float]]) -> None:
    with pytest.raises(MetricError):
        time_ratio([[1.0]], spoilt)


def against(desk: Desk, **changes: Any) -> Regression:
    """The baseline compared with itself, but for ``changes``."""
    (baseline,) = read_baselines(desk.baselines)
    return compare(baseline, Found(replace(baseline, **changes), ()))


def test_a_slowdown_that_noise_could_explain_is_not_run(accepted: Desk) -> None:
    noise = tuple((10.0, 12.0 + i, 32.0, 40.0) for i in range(3))
    verdict = against(accepted, repeats_ms=noise).checks["latency_ms"]
    assert verdict.outcome is Outcome.NOT_RUN
    assert "the interval holds 1" in str(verdict)


def test_a_grown_drop_fails(accepted: Desk) -> None:
    (baseline,) = read_baselines(accepted.baselines)
    before: Measured = replace(baseline, drop_db=0.03, psnr_db=55.0)
    worse = replace(before, drop_db=0.06, psnr_db=52.0)
    regression = compare(before, Found(worse, ()))
    assert regression.checks["drop_db"].outcome is Outcome.FAILED
    assert "psnr_db 55.000 -> 52.000 (-3.000 dB)" in regression.changes


def test_a_picture_that_is_no_longer_compared_is_not_run(accepted: Desk) -> None:
    (baseline,) = read_baselines(accepted.baselines)
    before = replace(baseline, drop_db=0.03)
    regression = compare(before, Found(baseline, ()))
    assert regression.checks["drop_db"].outcome is Outcome.NOT_RUN


def test_another_protocol_or_machine_is_refused(accepted: Desk) -> None:
    (baseline,) = read_baselines(accepted.baselines)
    for name in ("device", "machine", "protocol", "accelerator", "unit"):
        spoilt: dict[str, Any] = {name: "other"}
        other = replace(baseline, setting=replace(baseline.setting, **spoilt))
        with pytest.raises(MetricError, match=f"{name} other, baseline"):
            compare(baseline, Found(other, ()))
