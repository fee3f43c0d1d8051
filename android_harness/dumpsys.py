"""Reads what Android's services print: battery, temperatures, core clocks.

Formats: BatteryService.dumpInternal and ThermalManagerService.dump of AOSP, and the kernel's
Documentation/admin-guide/pm/cpufreq.rst.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dfnet.errors import DeviceError

ThermalState = Literal["nominal", "fair", "serious", "critical"]

_THERMAL_STATES: tuple[ThermalState, ...] = (
    "nominal",  # THERMAL_STATUS_NONE
    "fair",  # LIGHT
    "fair",  # MODERATE
    "serious",  # SEVERE
    "critical",  # CRITICAL
    "critical",  # EMERGENCY
    "critical",  # SHUTDOWN
)
"""PowerManager.THERMAL_STATUS_* in order, in the words of docs/device-protocol.md."""

_SKIN = 3
"""TemperatureType.SKIN of android.hardware.thermal."""

_STATUS_CHARGING = 2
"""BatteryManager.BATTERY_STATUS_CHARGING."""


@dataclass(frozen=True)
class Battery:
    """``temperature_c`` is in degrees Celsius, None where the phone does not tell."""

    percent: float
    charging: bool
    temperature_c: float | None


@dataclass(frozen=True)
class Thermal:
    """``skin_c`` is the hottest skin sensor in degrees Celsius, None without one."""

    state: ThermalState
    skin_c: float | None


@dataclass(frozen=True)
class CoreClock:
    """One core: the limit in force and what the core can do, in kHz."""

    core: int
    limit_khz: int
    highest_khz: int


def parse_battery(text: str) -> Battery:
    """``dumpsys battery``. Plugged in counts as charging unless the phone says it is full.

    Raises:
        DeviceError: a field is missing or no number.
    """
    # Fields stand once each; a log with older values may follow.
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.strip().partition(": ")
        if colon:
            fields.setdefault(name.lower(), value.strip())
    level, scale = (_number(fields.get(name), f"battery {name}") for name in ("level", "scale"))
    if scale <= 0 or not 0 <= level <= scale:
        raise DeviceError(
            f"dumpsys battery: got level {level:g} of {scale:g}, needed one between. Run: dumpsys "
            "battery reset"
        )
    tenths = fields.get("temperature")
    return Battery(
        percent=100 * level / scale,
        charging=_number(fields.get("status"), "battery status") == _STATUS_CHARGING,
        temperature_c=None if tenths is None else _number(tenths, "battery temperature") / 10,
    )


def parse_thermal(text: str) -> Thermal:
    """``dumpsys thermalservice``. Cached temperatures are older than those of the HAL: not read.

    Raises:
        DeviceError: there is no status, or one that Android does not have.
    """
    found = re.search(r"^\s*Thermal Status: (-?\d+)\s*$", text, re.MULTILINE)
    if found is None or not 0 <= int(found[1]) < len(_THERMAL_STATES):
        raise DeviceError(
            f"dumpsys thermalservice: got {found[0].strip() if found else 'no Thermal Status'!r}, "
            f"needed one of 0 to {len(_THERMAL_STATES) - 1}. Use Android 10 or newer."
        )
    _, _, current = text.partition("Current temperatures from HAL:")
    current = current.partition("Current cooling devices")[0]
    sensors = re.findall(r"mValue=([^,}]+), mType=(-?\d+), mName=", current)
    skin = [_number(value, "skin temperature") for value, kind in sensors if int(kind) == _SKIN]
    return Thermal(_THERMAL_STATES[int(found[1])], max(skin, default=None))


def parse_clocks(lines: Sequence[str]) -> tuple[CoreClock, ...]:
    """Lines of ``core limit_khz highest_khz``; a core that is off has only its number.

    Raises:
        DeviceError: a line is anything else.
    """
    clocks = []
    for line in lines:
        cells = line.split()
        if not all(cell.isdigit() for cell in cells) or len(cells) not in (1, 3):
            raise DeviceError(f"Core clocks: got {line!r}, needed a core and two frequencies.")
        if len(cells) == 3:
            clocks.append(CoreClock(*map(int, cells)))
    return tuple(sorted(clocks, key=lambda clock: clock.core))


def _number(text: str | None, what: str) -> float:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DeviceError(
            f"dumpsys: got {text!r} for the {what}, needed a number. Check what the phone prints."
        )
    return number
