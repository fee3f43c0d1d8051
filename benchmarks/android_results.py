"""A phone's measurement in the words of docs/device-protocol.md, to be kept like any other."""

from __future__ import annotations

from collections.abc import Iterator

from android_harness.conditions import Conditions
from android_harness.latency import ColdRepeat, Measurement
from benchmarks.device_protocol import (
    PROTOCOL,
    AcceleratorFacts,
    DeviceFacts,
    DeviceRepeat,
    DeviceResult,
    RunnerFacts,
    ThermalState,
    Unit,
)
from dfnet.errors import DeviceError

_GPU = "GPU"
"""How native runners call LiteRT's GPU delegate; everything else they name runs on the CPU."""


def device_result(found: Measurement, *, asked: Unit) -> DeviceResult:
    """``found`` as ``device_results`` keeps it; ``asked`` is the unit that the job allowed.

    How the processes ran (mode, cores, held clocks) is part of the runner's version: results that
    differ in it are never compared. What was wrong around a repeat becomes a doubt.

    Raises:
        DeviceError: the runner does not say what ran.
    """
    identity, result = found.identity, found.result
    if result.accelerator is None or result.artifact_sha256 is None:
        raise DeviceError(
            f"Result of {result.runner.name}: got no accelerator or artifact, needed both. Rebuild "
            "the runner."
        )
    return DeviceResult(
        protocol=PROTOCOL,
        artifact_sha256=result.artifact_sha256,
        device=DeviceFacts(
            kind="device",
            name=identity.device.name,
            model=identity.model,
            os="Android",
            os_version=identity.os_version or "not reported",
            soc=identity.soc,
        ),
        runner=_runner(found),
        accelerator=AcceleratorFacts(
            asked=(asked,),
            ran=_units(result.accelerator),
            evidence="runtime",
            placement=None,
        ),
        threads=result.threads,
        cold="process",
        compile_ms=None,
        repeats=tuple(map(_repeat, found.repeats)),
        peak_memory_mb=found.peak_memory_mb,
        doubts=found.invalid_reasons(),
        error=None,
    )


def _runner(found: Measurement) -> RunnerFacts:
    build = found.result.runner
    manner = "; ".join((build.sdk, build.compiler, *_manner(found)))
    return RunnerFacts(build.name, f"{build.version} ({manner})", build.abi, build.libc)


def _manner(found: Measurement) -> Iterator[str]:
    yield str(found.result.mode)
    if found.result.cpus:
        yield f"cores {' '.join(map(str, found.result.cpus))}"
    if found.fixed_performance:
        yield "clocks held"


def _units(accelerator: str) -> tuple[Unit, ...]:
    names = set(accelerator.split(" + "))
    units: list[Unit] = ["cpu"] if names - {_GPU} else []
    return (*units, *(("gpu",) if _GPU in names else ()))


def _repeat(one: ColdRepeat) -> DeviceRepeat:
    battery, times = one.before.battery, one.times
    return DeviceRepeat(
        load_ms=times.load_ms,
        first_ms=times.first_ms,
        warmup_ms=times.warmup_ms,
        samples_ms=times.samples_ms,
        thermal_before=_thermal(one.before),
        thermal_after=_thermal(one.after),
        battery_percent=battery.percent if battery else None,
        charging=battery.charging if battery else None,
        low_power_mode=_either(one.before.low_power_mode, one.after.low_power_mode),
    )


def _thermal(state: Conditions) -> ThermalState | None:
    return state.thermal.state if state.thermal else None


def _either(before: bool | None, after: bool | None) -> bool | None:
    """Whether the phone saved power at either end; None when one end does not tell."""
    return None if before is None or after is None else before or after
