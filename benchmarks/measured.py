"""What was measured, of every file and device, in the form that baselines are kept in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.baseline import SCHEMA, Found, Measured, Setting, Unit
from benchmarks.device_parity import DeviceParity, spread
from benchmarks.device_results import DeviceLatency
from benchmarks.hostload import processor
from benchmarks.results import Comparison
from benchmarks.row import Row
from benchmarks.timing import LatencyResult
from dfnet.runner import Device

_UNITS: dict[str, Unit] = {"host": "host_ms", "emulator": "insn_proxy_ms", "device": "latency_ms"}

COUNTING = "instructions-2"
"""The protocol of counted instructions: raised when what is counted changes."""

BOOTS_SPREAD = 0.001
"""Instruction counts of two boots that differ by more are INVALID: the clock did not count."""


def find_measured(
    rows: Sequence[Row],
    comparisons: Iterable[Comparison],
    device_latencies: Iterable[DeviceLatency],
    device_parities: Iterable[DeviceParity] = (),
) -> list[Found]:
    """Every file of ``rows`` that was timed on this machine or devices, or whose instructions were
    counted."""
    hosts = {
        sha256: result
        for comparison in comparisons
        for sha256, result in comparison.results.items()
        if result.protocol == "full"
    }
    devices, parities = list(device_latencies), list(device_parities)
    found: list[Found | None] = []
    for row in rows:
        if row.runner is None and row.artifact_sha256 in hosts:
            found.append(_on_host(row, hosts[row.artifact_sha256]))
        if row.runner is None:
            found += [
                _counted(row, p) for p in parities if p.artifact_sha256 == row.artifact_sha256
            ]
        found += [
            _on_device(row, one)
            for one in devices
            if row.runner == one.runner
            and (row.artifact_sha256, row.device) == (one.artifact_sha256, one.device.name)
            and row.accelerator == one.units
            and row.threads == one.facts.threads
        ]
    return [one for one in found if one is not None]


def _on_host(row: Row, result: LatencyResult) -> Found | None:
    return _found(row, result, runner=None, machine=processor())


def _on_device(row: Row, one: DeviceLatency) -> Found | None:
    facts = one.facts
    # The build decides the time as much as the version does.
    runner = f"{one.runner}, {facts.runner.abi}, {facts.runner.libc or 'libc not told'}"
    return _found(row, one.latency, runner=runner, machine=one.machine)


def _counted(row: Row, one: DeviceParity) -> Found | None:
    """What an emulated device counted; its pictures are the host's, see ``device_parity``."""
    proxy, runner = one.insn_proxy, one.runner
    if proxy is None or runner is None:
        return None
    measured = _measured(
        row,
        tuple((least,) for least in proxy.least_ms),
        device_kind="emulator",
        device=one.device.name,
        machine=proxy.machine,
        runner=f"{runner.name} {runner.version}, {runner.abi}, {runner.libc or 'libc not told'}",
        accelerator=one.accelerator or "not told",
        protocol=COUNTING,
        threads=1,
    )
    apart = spread(proxy)
    wrong = f"boots differ by {apart:.2%}, needed at most {BOOTS_SPREAD:.1%}"
    return Found(measured, (wrong,) if apart > BOOTS_SPREAD else ())


def _found(row: Row, result: LatencyResult, *, runner: str | None, machine: str) -> Found | None:
    repeats = tuple(repeat.samples_ms for repeat in result.repeats if repeat.samples_ms)
    if not repeats or result.device.kind not in _UNITS:
        return None
    measured = _measured(
        row,
        repeats,
        device_kind=result.device.kind,
        device=_device_name(result.device),
        machine=machine,
        runner=runner,
        accelerator=result.repeats[0].accelerator,
        protocol=result.protocol,
        threads=result.threads,
    )
    measured = replace(
        measured, psnr_db=row.psnr_db, drop_db=row.drop_db, latency_ratio=row.latency_ratio
    )
    return Found(measured, result.invalid_reasons())


def _measured(
    row: Row, repeats_ms: tuple[tuple[float, ...], ...], *, device_kind: str, **where: Any
) -> Measured:
    """Of the file of ``row``; ``where`` are the other fields of ``Setting``."""
    setting = Setting(
        platform=row.platform,
        runtime=row.runtime,
        backend=row.backend,
        recipe=row.recipe,
        resolution=row.resolution,
        device_kind=device_kind,  # type: ignore[arg-type]
        unit=_UNITS[device_kind],
        **where,
    )
    return Measured(
        schema=SCHEMA,
        artifact=row.artifact,
        artifact_sha256=row.artifact_sha256,
        artifact_bytes=row.artifact_bytes,
        setting=setting,
        repeats_ms=repeats_ms,
        psnr_db=None,
        drop_db=None,
        latency_ratio=None,
    )


def _device_name(device: Device) -> str:
    # A host's name carries its thread count, which is a field of its own.
    return device.name.partition(", ")[0] if device.kind == "host" else device.name
