"""Baselines: what one file measured on one device when it was last accepted; committed.

    benchmarks/baselines/<platform>-<artifact id>.<device>-<key>.json

Times of a phone are its latency, those of an emulator a proxy for the instructions executed
(``insn_proxy_ms``), those of a host good for this host alone.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from benchmarks.device_results import DeviceLatency
from benchmarks.identity import key_of
from benchmarks.results import Comparison, write_text
from benchmarks.row import Row
from benchmarks.timing import LatencyResult
from dfnet.decoding import Rule, decode, read_json
from dfnet.errors import ArtifactError
from dfnet.runner import Device

SCHEMA = 1
PAGE = "docs/measuring.md"
FOLDER = Path("benchmarks/baselines")

Unit = Literal["host_ms", "insn_proxy_ms", "latency_ms"]
_UNITS: dict[str, Unit] = {"host": "host_ms", "emulator": "insn_proxy_ms", "device": "latency_ms"}

# Rules stand at module level: inside a class their lambdas would not see the module's names.
Schema = Annotated[int, Rule(str(SCHEMA), lambda v: v == SCHEMA)]
Bytes = Annotated[int, Rule("over 0", lambda v: v > 0)]
Times = Annotated[
    tuple[float, ...],
    Rule("at least one time, all over 0 ms", lambda v: len(v) > 0 and min(v) > 0),
]
Repeats = Annotated[tuple[Times, ...], Rule("at least one repeat", lambda v: len(v) > 0)]


@dataclass(frozen=True)
class Setting:
    """What two runs must share for their times to be compared.

    ``machine`` tells apart what bears one name: a host's processor, a phone's system version.
    """

    platform: str
    runtime: str
    backend: str
    recipe: str
    resolution: str
    device_kind: Literal["host", "emulator", "device"]
    device: str
    machine: str
    runner: str | None
    accelerator: str
    protocol: str
    threads: int | None
    unit: Unit

    def difference(self, other: Setting) -> str | None:
        """The first field that differs, with both values; None when they are alike."""
        for name in (field.name for field in fields(self)):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} {mine}, baseline {theirs}"
        return None


@dataclass(frozen=True)
class Measured:
    """One file on one device; a baseline once it is written down.

    ``repeats_ms`` are the raw samples of every repeat. ``psnr_db`` and ``drop_db`` are as in a
    report's row, None where no picture was compared.
    """

    schema: Schema
    artifact: str
    artifact_sha256: str
    artifact_bytes: Bytes
    setting: Setting
    repeats_ms: Repeats
    psnr_db: float | None
    drop_db: float | None
    latency_ratio: float | None

    @property
    def cell(self) -> tuple[str, str, str, str, str]:
        """What must be the same file on the same device, whatever the setting."""
        s = self.setting
        return s.platform, self.artifact, s.device_kind, s.device, s.accelerator

    @property
    def name(self) -> str:
        return f"{self.setting.platform} {self.artifact} on {self.setting.device}"


@dataclass(frozen=True)
class Found:
    """A measurement and why it must not be trusted, if so."""

    measured: Measured
    invalid_reasons: tuple[str, ...]


def find_measured(
    rows: Sequence[Row],
    comparisons: Iterable[Comparison],
    device_latencies: Iterable[DeviceLatency],
) -> list[Found]:
    """Every file of ``rows`` that was timed, on this machine and on devices."""
    hosts = {
        sha256: result
        for comparison in comparisons
        for sha256, result in comparison.results.items()
        if result.protocol == "full"
    }
    devices = list(device_latencies)
    found = []
    for row in rows:
        if row.runner is None and row.artifact_sha256 in hosts:
            found.append(_on_host(row, hosts[row.artifact_sha256]))
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
    return _found(row, result, runner=None, machine=_processor())


def _on_device(row: Row, one: DeviceLatency) -> Found | None:
    facts = one.facts
    machine = f"{facts.device.model or '?'}, {facts.device.os} {facts.device.os_version}"
    # The build decides the time as much as the version does.
    runner = f"{one.runner}, {facts.runner.abi}, {facts.runner.libc or 'libc not told'}"
    return _found(row, one.latency, runner=runner, machine=machine)


def _found(row: Row, result: LatencyResult, *, runner: str | None, machine: str) -> Found | None:
    repeats = tuple(repeat.samples_ms for repeat in result.repeats if repeat.samples_ms)
    if not repeats or result.device.kind not in _UNITS:
        return None
    setting = Setting(
        platform=row.platform,
        runtime=row.runtime,
        backend=row.backend,
        recipe=row.recipe,
        resolution=row.resolution,
        device_kind=result.device.kind,  # type: ignore[arg-type]
        device=_device_name(result.device),
        machine=machine,
        runner=runner,
        accelerator=result.repeats[0].accelerator,
        protocol=result.protocol,
        threads=result.threads,
        unit=_UNITS[result.device.kind],
    )
    measured = Measured(
        schema=SCHEMA,
        artifact=row.artifact,
        artifact_sha256=row.artifact_sha256,
        artifact_bytes=row.artifact_bytes,
        setting=setting,
        repeats_ms=repeats,
        psnr_db=row.psnr_db,
        drop_db=row.drop_db,
        latency_ratio=row.latency_ratio,
    )
    return Found(measured, result.invalid_reasons())


def _device_name(device: Device) -> str:
    # A host's name carries its thread count, which is a field of its own.
    return device.name.partition(", ")[0] if device.kind == "host" else device.name


def _processor() -> str:
    """The model of this machine's processor, as Linux or Python tells it."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(errors="replace") if path.is_file() else ""
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def baseline_path(folder: Path, measured: Measured) -> Path:
    """Where a baseline is kept; a new one of the same cell replaces it."""
    setting = measured.setting
    slug = re.sub(r"[^a-z0-9]+", "-", setting.device.lower()).strip("-")[:40] or "device"
    name = f"{setting.platform}-{measured.artifact}.{slug}-{key_of(*measured.cell)[:8]}.json"
    return folder / name


def write_baseline(folder: Path, measured: Measured) -> Path:
    """Writes a baseline, whole or not at all.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    path = baseline_path(folder, measured)
    write_text(path, json.dumps(asdict(measured), indent=1, allow_nan=False) + "\n")
    return path


def read_baselines(folder: Path) -> list[Measured]:
    """Every baseline in ``folder``.

    Raises:
        ArtifactError: there is none, or one is not what this version writes.
    """
    found = list(_read(folder))
    if not found:
        raise ArtifactError(
            f"Baselines in {folder}: got none, needed at least one to compare with. Write them "
            "from results you accept: make baseline"
        )
    return found


def _read(folder: Path) -> Iterator[Measured]:
    for path in sorted(folder.glob("*.json")):
        yield decode(Measured, read_json(path), f"Baseline {path}", page=PAGE)
