"""A phone's measurement, kept and judged like results of any other runner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from android_harness.conditions import Conditions
from android_harness.dumpsys import Battery, CoreClock, Thermal
from android_harness.facts import DeviceIdentity
from android_harness.job_result import JobRepeat, JobResult, RunnerBuild
from android_harness.latency import ColdRepeat, Measurement
from benchmarks.android_results import device_result
from benchmarks.device_results import DeviceLatency, keep, read_device_latency
from dfnet.errors import DeviceError
from dfnet.runner import Device

FIT = Conditions(
    Battery(85.0, True, 28.7), Thermal("nominal", 29.4), False, (CoreClock(0, 1800, 1800),)
)
TIMES = JobRepeat(30.0, 25.0, (21.0,) * 5, (20.0, 20.4) * 25, tuple(range(50)))


def a_measurement(
    before: Conditions = FIT,
    after: Conditions = FIT,
    *,
    accelerator: str | None = "XNNPACK",
    cpus: tuple[int, ...] | None = (4, 5),
    held: bool = True,
) -> Measurement:
    result = JobResult(
        protocol=1,
        runner=RunnerBuild(
            "litert_runner", "1", "ai-edge-litert 2.3.0", "gcc 12", "glibc 2.36", "a"
        ),
        artifact_sha256="a" * 64,
        mode="burst",
        threads=2,
        cpus=cpus,
        accelerator=accelerator,
    )
    identity = DeviceIdentity(
        Device("device", "Google Pixel 8"), "arm64-v8a", "Pixel 8", "14 (AP2A)", "Google Tensor G3"
    )
    repeats = (ColdRepeat(TIMES, before, after),) * 3
    return Measurement(identity, result, repeats, 61.5, held)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "result.device.json"


def kept(path: Path, found: Measurement) -> DeviceLatency:
    """Written and read again, as reports do."""
    facts = device_result(found, asked="cpu")
    assert facts.accelerator is not None
    assert facts.repeats is not None
    keep(path, DeviceLatency(facts, facts.accelerator, facts.repeats))
    return read_device_latency(path)


def test_a_fit_phone_gives_a_valid_latency(path: Path) -> None:
    one = kept(path, a_measurement())
    assert one.latency.validity == "VALID"
    assert one.latency.median_ms == pytest.approx(20.2)
    assert (one.units, one.facts.threads, one.facts.peak_memory_mb) == ("cpu", 2, 61.5)
    assert one.facts.runner.libc == "glibc 2.36"


def test_how_the_process_ran_keeps_results_apart(path: Path) -> None:
    one = kept(path, a_measurement())
    assert one.facts.runner.version == (
        "1 (ai-edge-litert 2.3.0; gcc 12; burst; cores 4 5; clocks held)"
    )
    assert kept(path, a_measurement(cpus=(0,))).setting != one.setting
    assert kept(path, a_measurement(held=False)).setting != one.setting


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        (FIT, replace(FIT, thermal=Thermal("fair", 30.0)), "thermal state fair"),
        (FIT, replace(FIT, thermal=Thermal("nominal", 41.0)), "skin at 41.0 °C, needed 35 °C"),
        (replace(FIT, battery=Battery(12, False, None)), FIT, "battery at 12 %, needed 20 %"),
        (FIT, replace(FIT, low_power_mode=True), "low-power mode on"),
        (
            replace(FIT, clocks=(CoreClock(0, 900_000, 1_800_000),)),
            FIT,
            "core 0 limited to 0.90 of 1.80 GHz",
        ),
        (
            FIT,
            Conditions(None, None, None, ()),
            "battery not reported; thermal state not reported; low-power mode not reported; core "
            "clocks not reported",
        ),
    ],
)
def test_an_unfit_phone_gives_an_invalid_one_with_each_reason_once(
    path: Path, before: Conditions, after: Conditions, reasons: str
) -> None:
    assert kept(path, a_measurement(before, after)).latency.validity == f"INVALID ({reasons})"


@pytest.mark.parametrize(
    ("accelerator", "units"),
    [("XNNPACK + CPU kernels", "cpu"), ("GPU", "gpu"), ("GPU + XNNPACK", "cpu+gpu")],
)
def test_units_are_those_that_ran(path: Path, accelerator: str, units: str) -> None:
    assert kept(path, a_measurement(accelerator=accelerator)).units == units


def test_a_runner_that_does_not_say_what_ran_is_refused() -> None:
    with pytest.raises(DeviceError, match="no accelerator"):
        device_result(a_measurement(accelerator=None), asked="cpu")
