"""Whether a phone is fit to be timed: cool, charged, unthrottled, and kept that way.

What a device does not tell is unknown, and unknown is never fit.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from android_harness.dumpsys import (
    Battery,
    CoreClock,
    Thermal,
    parse_battery,
    parse_clocks,
    parse_thermal,
)
from android_harness.transport import Transport
from dfnet.errors import DeviceError, UnsupportedError

LOW_BATTERY_PERCENT = 20.0
"""Below this, phones save power of their own accord."""

CHARGED_PERCENT = 80.0
"""Below this, a charging phone charges fast and gets warm from that alone."""

HOTTEST_C = 35.0
"""Battery and skin, in degrees Celsius: the gate of react-native-executorch's benchmarks."""

CLOCK_SHARE = 0.95
"""A core limited to less than this part of its highest clock is throttled."""

_CLOCKS = """
for folder in /sys/devices/system/cpu/cpu[0-9]*; do
  frequency=$folder/cpufreq
  [ -r $frequency/scaling_max_freq ] || continue
  echo ${folder##*/cpu} $(cat $frequency/scaling_max_freq) $(cat $frequency/cpuinfo_max_freq)
done
"""
_FIXED = ("cmd", "power", "set-fixed-performance-mode-enabled")
_NOT_FOUND = 127


@dataclass(frozen=True)
class Conditions:
    """The state of a device at one moment; None and no clocks mean that it does not tell."""

    battery: Battery | None
    thermal: Thermal | None
    low_power_mode: bool | None
    clocks: tuple[CoreClock, ...]

    def unknown(self) -> tuple[str, ...]:
        """What the device does not tell."""
        facts = {
            "battery": self.battery,
            "thermal state": self.thermal,
            "low-power mode": self.low_power_mode,
            "core clocks": self.clocks or None,
        }
        return tuple(name for name, fact in facts.items() if fact is None)

    def passing(self) -> tuple[str, ...]:
        """What is wrong now and may be right in a while, when the phone has cooled down."""
        return (*_heat(self), *_throttling(self.clocks))

    def lasting(self) -> tuple[str, ...]:
        """What is wrong and waiting does not mend."""
        silent = [f"{name} not reported" for name in self.unknown()]
        return (*silent, *_power(self.battery, self.low_power_mode))

    def complaints(self) -> tuple[str, ...]:
        """Why times taken now are INVALID; empty when they are to be trusted."""
        return (*self.lasting(), *self.passing())


def _heat(now: Conditions) -> Iterator[str]:
    if now.thermal is not None and now.thermal.state != "nominal":
        yield f"thermal state {now.thermal.state}"
    places = {
        "battery": now.battery.temperature_c if now.battery else None,
        "skin": now.thermal.skin_c if now.thermal else None,
    }
    for place, degrees in places.items():
        if degrees is not None and degrees > HOTTEST_C:
            yield f"{place} at {degrees:.1f} °C, needed {HOTTEST_C:.0f} °C"


def _throttling(clocks: Sequence[CoreClock]) -> Iterator[str]:
    for clock in clocks:
        if clock.limit_khz < CLOCK_SHARE * clock.highest_khz:
            yield (
                f"core {clock.core} limited to {clock.limit_khz / 1e6:.2f} of "
                f"{clock.highest_khz / 1e6:.2f} GHz"
            )


def _power(battery: Battery | None, low_power_mode: bool | None) -> Iterator[str]:
    if low_power_mode:
        yield "low-power mode on"
    if battery is None:
        return
    if battery.percent < LOW_BATTERY_PERCENT:
        yield f"battery at {battery.percent:.0f} %, needed {LOW_BATTERY_PERCENT:.0f} %"
    elif battery.charging and battery.percent < CHARGED_PERCENT:
        yield (f"charging at {battery.percent:.0f} %, needed {CHARGED_PERCENT:.0f} % or unplugged")


def read_conditions(transport: Transport) -> Conditions:
    """Asks the device.

    Raises:
        DeviceError: a service prints what Android does not document.
        ConnectionLostError: the device does not come back.
    """
    battery = _told(transport, ["dumpsys", "battery"])
    thermal = _told(transport, ["dumpsys", "thermalservice"])
    saving = _told(transport, ["settings", "get", "global", "low_power"])
    clocks = transport.query(["sh", "-c", _CLOCKS]).splitlines()
    return Conditions(
        battery=None if battery is None else parse_battery(battery),
        thermal=None if thermal is None else parse_thermal(thermal),
        low_power_mode=None if saving is None else _low_power(saving.strip()),
        clocks=parse_clocks(clocks),
    )


def _told(transport: Transport, words: Sequence[str]) -> str | None:
    """What a service prints; None where there is no such program or service."""
    done = transport.persist(lambda: transport.run(words))
    missing = done.code == _NOT_FOUND or "Can't find service" in done.stdout + done.stderr
    if missing or (done.code == 0 and not done.stdout.strip()):
        return None
    if done.code != 0:
        said = " ".join((done.stderr or done.stdout).split())[-200:]
        raise DeviceError(
            f"{transport.subject}: `{shlex.join(words)}` ended with {done.code} ({said}), needed 0."
        )
    return done.stdout


def _low_power(value: str) -> bool:
    # A phone that never saved power has no such setting.
    states = {"0": False, "null": False, "1": True}
    if value not in states:
        raise DeviceError(f"Setting low_power: got {value[:60]!r}, needed 0, 1 or null.")
    return states[value]


def wait_until_fit(
    read: Callable[[], Conditions],
    *,
    patience_s: float,
    pause_s: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] = lambda _: None,
) -> Conditions:
    """The conditions once nothing is wrong that waiting mends, or when ``patience_s`` is over.

    ``say`` is told, each time it changes, what is waited for. Whether the result is fit, its
    ``complaints`` tell.
    """
    deadline, told = clock() + patience_s, ""
    while True:
        now = read()
        wrong = "; ".join(now.passing())
        if not wrong or clock() + pause_s > deadline:
            return now
        if wrong != told:
            say(f"Waiting until the phone is fit: {wrong}")
            told = wrong
        sleep(pause_s)


@contextmanager
def fixed_performance(transport: Transport) -> Iterator[bool]:
    """Holds the clocks where the phone can sustain them, where it offers that; tells whether.

    Android 11 and newer, PowerManagerShellCommand; not every phone's power HAL agrees.
    """
    done = transport.persist(lambda: transport.run([*_FIXED, "true"]))
    held = done.code == 0 and not (done.stdout + done.stderr).strip()
    try:
        yield held
    finally:
        if held:
            transport.query([*_FIXED, "false"])


def big_cores(clocks: Sequence[CoreClock], threads: int) -> tuple[int, ...]:
    """The fastest cores, whole clusters of one highest clock, enough for ``threads``.

    Raises:
        UnsupportedError: the device does not tell its clocks, or has too few cores.
    """
    if not 1 <= threads <= len(clocks):
        raise UnsupportedError(
            f"Big cores: got {len(clocks)} cores with a known clock, needed {threads}. Choose "
            "fewer --threads, or leave the cores to Android."
        )
    chosen: list[int] = []
    for highest in sorted({clock.highest_khz for clock in clocks}, reverse=True):
        if len(chosen) < threads:
            chosen += [clock.core for clock in clocks if clock.highest_khz == highest]
    return tuple(sorted(chosen))
