"""The JSON that runners on any device read and write: job.json and result.json.

docs/device-protocol.md explains every field. A runner in another language declares the same names;
``tests/test_benchmarks_import.py`` compares the Swift one's with these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from dfnet.decoding import Rule

PROTOCOL = 1
"""Raised whenever a field is added, removed, or means something else."""

Unit = Literal["cpu", "gpu", "neural_engine", "npu", "dsp"]
UNITS: tuple[Unit, ...] = ("cpu", "gpu", "neural_engine", "npu", "dsp")
ThermalState = Literal["nominal", "fair", "serious", "critical"]

PAGE = "docs/device-protocol.md"

_LONGEST_LINE = 200
_HOUR_MS = 3_600_000.0


def _is_line(text: str) -> bool:
    return text.isprintable() and bool(text.strip()) and len(text) <= _LONGEST_LINE


Line = Annotated[str, Rule("one line of 1 to 200 printable characters", _is_line)]
Sha256 = Annotated[
    str,
    Rule("64 lowercase hexadecimal digits", lambda v: bool(re.fullmatch("[0-9a-f]{64}", v))),
]
Milliseconds = Annotated[
    float, Rule("a time over 0 ms and under an hour", lambda v: 0 < v < _HOUR_MS)
]
LoadMilliseconds = Annotated[
    float, Rule("a time of 0 ms or more and under an hour", lambda v: 0 <= v < _HOUR_MS)
]
Megabytes = Annotated[float, Rule("over 0 MB", lambda v: v > 0)]
Percent = Annotated[float, Rule("a percentage from 0 to 100", lambda v: 0 <= v <= 100)]
Count = Annotated[int, Rule("1 or more", lambda v: v >= 1)]
Units = Annotated[
    tuple[Unit, ...],
    Rule("at least one unit, each once", lambda v: len(v) > 0 and len(set(v)) == len(v)),
]
Placement = dict[str, dict[str, Count]]


@dataclass(frozen=True)
class JobInput:
    """One input: ``file`` beside job.json holds its values, little-endian, in C order."""

    name: str
    file: str
    shape: tuple[int, ...]
    dtype: Literal["float32"]


@dataclass(frozen=True)
class Job:
    """What a runner is asked to do; job.json."""

    protocol: int
    artifact_file: str
    artifact_sha256: str
    inputs: tuple[JobInput, ...]
    repeats: int
    warmups: int
    runs: int
    seconds: float
    threads: int | None
    accelerator: tuple[Unit, ...]
    device_name: str | None


@dataclass(frozen=True)
class DeviceFacts:
    """The device that ran. ``name`` is what people call it, ``model`` what its maker does."""

    kind: Literal["host", "emulator", "simulator", "device"]
    name: Line
    model: Line | None
    os: Line
    os_version: Line
    soc: Line | None


@dataclass(frozen=True)
class RunnerFacts:
    """The program that ran: its own name and version, and what it was built for."""

    name: Line
    version: Line
    abi: Line
    libc: Line | None


@dataclass(frozen=True)
class AcceleratorFacts:
    """Units the job allowed, units that ran, how the runner knows, operators per unit."""

    asked: Units
    ran: Units
    evidence: Literal["runtime", "plan", "only choice"]
    placement: Placement | None


@dataclass(frozen=True)
class DeviceRepeat:
    """One cold repeat, and the state of the device around it."""

    load_ms: LoadMilliseconds
    first_ms: Milliseconds
    warmup_ms: tuple[Milliseconds, ...]
    samples_ms: Annotated[
        tuple[Milliseconds, ...], Rule("at least one sample", lambda v: len(v) > 0)
    ]
    thermal_before: ThermalState | None
    thermal_after: ThermalState | None
    battery_percent: Percent | None
    charging: bool | None
    low_power_mode: bool | None


@dataclass(frozen=True)
class RunError:
    """Why there are no repeats."""

    stage: Line
    message: str


@dataclass(frozen=True)
class DeviceResult:
    """What a runner measured; result.json. Exactly one of ``repeats`` and ``error`` is given."""

    protocol: int
    artifact_sha256: Sha256
    device: DeviceFacts
    runner: RunnerFacts
    accelerator: AcceleratorFacts | None
    threads: Count | None
    cold: Literal["process", "load"] | None
    compile_ms: LoadMilliseconds | None
    repeats: (
        Annotated[tuple[DeviceRepeat, ...], Rule("at least one repeat", lambda v: len(v) > 0)]
        | None
    )
    peak_memory_mb: Megabytes | None
    doubts: tuple[Line, ...]
    error: RunError | None
