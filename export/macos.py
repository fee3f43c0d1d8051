"""What a Mac says about itself, through programs that every macOS has.

Not run on a Mac yet. What ``sysctl``, ``pmset`` and ``osascript`` do not answer as expected is
None.
"""

from __future__ import annotations

import platform
import re
import subprocess
from dataclasses import dataclass

from dfnet.errors import UnsupportedError

_SECONDS = 10.0
_THERMAL_STATES = ("nominal", "fair", "serious", "critical")
"""Cases of Foundation's ``ProcessInfo.ThermalState``, by value."""

# JavaScript for Automation reaches Foundation without a package of its own.
_PROCESS_INFO = (
    "/usr/bin/osascript",
    "-l",
    "JavaScript",
    "-e",
    "ObjC.import('Foundation'); var p = $.NSProcessInfo.processInfo;"
    " p.thermalState + ' ' + p.isLowPowerModeEnabled",
)


def require_macos(what: str) -> None:
    """Whether this is a Mac.

    Raises:
        UnsupportedError: it is not; ``what`` starts the sentence.
    """
    if platform.system() != "Darwin":
        raise UnsupportedError(
            f"{what}: got {platform.system()}, needs macOS. Run the same command on a Mac."
        )


def macos_release() -> str:
    """Such as ``15.1``; empty elsewhere."""
    return platform.mac_ver()[0]


def macos_version() -> tuple[int, int]:
    """Major and minor number of ``macos_release``; (0, 0) elsewhere."""
    numbers = [int(part) for part in re.findall(r"\d+", macos_release())]
    major, minor = (*numbers, 0, 0)[:2]
    return major, minor


def chip() -> str | None:
    """The processor's name, such as ``Apple M2 Pro``."""
    return _answer("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string")


def mac_model() -> str | None:
    """The machine's identifier, such as ``Mac14,2``."""
    return _answer("/usr/sbin/sysctl", "-n", "hw.model")


@dataclass(frozen=True)
class PowerState:
    """What slows a Mac down. ``thermal`` is nominal, fair, serious or critical; the battery's
    facts are None on a Mac without one."""

    thermal: str | None
    low_power_mode: bool | None
    battery_percent: float | None
    plugged_in: bool | None


def power_state() -> PowerState:
    """The state now; takes about a second, so not while timing."""
    told = re.fullmatch(r"([0-3]) (true|false)", _answer(*_PROCESS_INFO) or "")
    supply = _answer("/usr/bin/pmset", "-g", "batt") or ""
    battery = re.search(r"InternalBattery.*?(\d+)%", supply)
    return PowerState(
        thermal=_THERMAL_STATES[int(told[1])] if told else None,
        low_power_mode=told[2] == "true" if told else None,
        battery_percent=float(battery[1]) if battery else None,
        plugged_in="'AC Power'" in supply if battery else None,
    )


def _answer(*command: str) -> str | None:
    if platform.system() != "Darwin":
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout.strip() or None) if done.returncode == 0 else None
