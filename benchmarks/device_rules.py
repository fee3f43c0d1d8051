"""When a device's milliseconds can be trusted. Spread and variation are judged in ``timing``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.device_protocol import AcceleratorFacts, DeviceRepeat, DeviceResult
from benchmarks.latency import FULL

LOW_BATTERY_PERCENT = 20.0
"""Below this, phones save power of their own accord."""

CHARGED_PERCENT = 80.0
"""Below this, a charging phone charges fast and gets warm from that alone."""


def disturbances(
    accelerator: AcceleratorFacts, repeats: Sequence[DeviceRepeat], result: DeviceResult
) -> tuple[str, ...]:
    """Why a result is INVALID, but for what its samples tell; each reason once."""
    reasons = [*_amount(repeats), *_units(accelerator), *result.doubts]
    for repeat in repeats:
        reasons += [*_heat(repeat), *_power(repeat)]
        if result.device.kind == "device":
            reasons += _battery(repeat)
    return tuple(dict.fromkeys(reasons))


def _amount(repeats: Sequence[DeviceRepeat]) -> Iterator[str]:
    warmups = min(len(repeat.warmup_ms) for repeat in repeats)
    runs = min(len(repeat.samples_ms) for repeat in repeats)
    seconds = min(sum(repeat.samples_ms) for repeat in repeats) / 1e3
    if len(repeats) < FULL.repeats:
        yield f"{len(repeats)} cold repeats, needed {FULL.repeats}"
    if warmups < FULL.warmups:
        yield f"a repeat with {warmups} warm-ups, needed {FULL.warmups}"
    if runs < FULL.runs:
        yield f"a repeat of {runs} runs, needed {FULL.runs}"
    if seconds < FULL.seconds:
        yield f"a repeat of {seconds:.2f} s, needed {FULL.seconds:g} s"


def _units(accelerator: AcceleratorFacts) -> Iterator[str]:
    for unit in accelerator.ran:
        if unit not in accelerator.asked:
            yield f"ran on {unit}, asked for {'+'.join(accelerator.asked)}"


def _heat(repeat: DeviceRepeat) -> Iterator[str]:
    for state in (repeat.thermal_before, repeat.thermal_after):
        if state is None:
            yield "thermal state not reported"
        elif state != "nominal":
            yield f"thermal state {state}"


def _power(repeat: DeviceRepeat) -> Iterator[str]:
    if repeat.low_power_mode is None:
        yield "low-power mode not reported"
    elif repeat.low_power_mode:
        yield "low-power mode on"


def _battery(repeat: DeviceRepeat) -> Iterator[str]:
    percent, charging = repeat.battery_percent, repeat.charging
    if percent is None or charging is None:
        yield "battery not reported"
    elif percent < LOW_BATTERY_PERCENT:
        yield f"battery at {percent:.0f} %, needed {LOW_BATTERY_PERCENT:.0f} %"
    elif charging and percent < CHARGED_PERCENT:
        yield f"charging at {percent:.0f} %, needed {CHARGED_PERCENT:.0f} % or unplugged"
