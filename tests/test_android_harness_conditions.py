"""A phone's conditions from what its services print, and the wait for better ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from android_harness.conditions import (
    CHARGED_PERCENT,
    LOW_BATTERY_PERCENT,
    Conditions,
    big_cores,
    fixed_performance,
    read_conditions,
    wait_until_fit,
)
from android_harness.dumpsys import (
    Battery,
    CoreClock,
    Thermal,
    parse_battery,
    parse_clocks,
    parse_thermal,
)
from android_harness.transport import Completed, Transport
from benchmarks import device_rules
from dfnet.errors import DeviceError, UnsupportedError

FIXTURES = Path(__file__).parent / "android_fixtures"
CLOCKS = ("0 1803000 1803000", "4 2348000 2348000", "5 2348000 2348000", "8 2914000 2914000")


def fixture(name: str) -> str:
    return (FIXTURES / f"{name}.txt").read_text()


class Phone(Transport):
    """Answers with fixtures; what it has no answer for, it has no program for."""

    def __init__(self, answers: dict[str, str], *, agrees: bool = True) -> None:
        super().__init__("fixture")
        self._given, self._agrees = answers, agrees
        self.asked: list[str] = []

    def run(
        self, words: Sequence[str], *, timeout_s: float | None = None, folder: str | None = None
    ) -> Completed:
        self.asked.append(" ".join(words))
        if words[0] == "cmd":
            return Completed(0 if self._agrees else 255, "", "")
        if words[0] == "sh":
            return Completed(0, self._given.get("clocks", ""), "")
        key = words[-1]
        known = key in self._given
        return Completed(0 if known else 127, self._given.get(key, ""), "")


def phone(battery: str = "fit", thermal: str = "fit", *, saving: str = "0") -> Phone:
    return Phone(
        {
            "battery": fixture(f"battery_{battery}"),
            "thermalservice": fixture(f"thermal_{thermal}"),
            "low_power": f"{saving}\n",
            "clocks": "\n".join(CLOCKS),
        }
    )


def test_a_fit_phone_has_nothing_to_complain_of() -> None:
    now = read_conditions(phone())
    assert now.complaints() == ()
    assert now.battery == Battery(85.0, True, 28.7)
    assert now.thermal == Thermal("nominal", 29.4)
    assert [clock.core for clock in now.clocks] == [0, 4, 5, 8]


@pytest.mark.parametrize(
    ("battery", "thermal", "saving", "told"),
    [
        ("low", "fit", "0", ["battery at 18 %, needed 20 %"]),
        ("charging", "fit", "0", ["charging at 55 %, needed 80 % or unplugged"]),
        ("hot", "fit", "null", ["battery at 38.9 °C, needed 35 °C"]),
        ("fit", "fit", "1", ["low-power mode on"]),
        ("fit", "hot", "0", ["thermal state fair", "skin at 43.6 °C, needed 35 °C"]),
        ("fit", "critical", "0", ["thermal state critical", "skin at 47.1 °C, needed 35 °C"]),
    ],
)
def test_an_unfit_phone_says_why(battery: str, thermal: str, saving: str, told: list[str]) -> None:
    assert list(read_conditions(phone(battery, thermal, saving=saving)).complaints()) == told


def test_a_throttled_core_is_named() -> None:
    slow = phone()
    slow._given["clocks"] = "0 1803000 1803000\n8 1426000 2914000"
    assert read_conditions(slow).complaints() == ("core 8 limited to 1.43 of 2.91 GHz",)


def test_a_device_without_services_is_unknown_and_never_fit() -> None:
    now = read_conditions(Phone({}))
    assert now == Conditions(None, None, None, ())
    assert now.complaints() == (
        "battery not reported",
        "thermal state not reported",
        "low-power mode not reported",
        "core clocks not reported",
    )


def test_a_service_that_does_not_exist_is_unknown() -> None:
    old = phone()
    old._given["thermalservice"] = "Can't find service: thermalservice\n"
    assert read_conditions(old).unknown() == ("thermal state",)


def test_older_values_in_a_log_are_not_read() -> None:
    assert parse_battery(fixture("battery_with_log")) == parse_battery(fixture("battery_fit"))


def test_cached_temperatures_are_not_read() -> None:
    assert "mValue=44.9" in fixture("thermal_fit")
    assert parse_thermal(fixture("thermal_fit")).skin_c == 29.4


@pytest.mark.parametrize(
    "text", ["", "level: many\nscale: 100\nstatus: 2", "level: 101\nscale: 100"]
)
def test_a_battery_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(DeviceError):
        parse_battery(text)


@pytest.mark.parametrize("text", ["", "Thermal Status: 7", "Thermal Status: hot"])
def test_a_thermal_status_that_android_has_not_is_refused(text: str) -> None:
    with pytest.raises(DeviceError, match="needed one of 0 to 6"):
        parse_thermal(text)


def test_temperatures_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DeviceError, match="skin temperature"):
        parse_thermal(fixture("thermal_fit").replace("mValue=29.4", "mValue=NaN"))


def test_clocks_that_make_no_sense_are_refused() -> None:
    with pytest.raises(DeviceError, match="two frequencies"):
        parse_clocks(["0 fast 12"])
    assert parse_clocks(["3"]) == ()


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_hot_phone_is_waited_for() -> None:
    clock, said = Clock(), list[str]()

    def read() -> Conditions:
        return read_conditions(phone(thermal="hot" if clock.now < 35 else "fit"))

    now = wait_until_fit(read, patience_s=60, clock=clock, sleep=clock.sleep, say=said.append)
    assert clock.now == 40
    assert now.complaints() == ()
    assert len(said) == 1
    assert "thermal state fair" in said[0]


def test_a_phone_that_stays_hot_is_invalid_with_the_reason() -> None:
    clock, hot = Clock(), read_conditions(phone(thermal="hot"))
    now = wait_until_fit(lambda: hot, patience_s=60, clock=clock, sleep=clock.sleep)
    assert clock.now <= 60
    assert "thermal state fair" in now.complaints()


def test_a_slow_phone_is_waited_for_too() -> None:
    clock, fit = Clock(), read_conditions(phone())
    slow = replace(fit, clocks=(CoreClock(0, 900_000, 1_803_000),))

    def read() -> Conditions:
        return slow if clock.now < 5 else fit

    assert wait_until_fit(read, patience_s=60, clock=clock, sleep=clock.sleep) == fit


def test_what_waiting_does_not_mend_is_not_waited_for() -> None:
    clock, low = Clock(), read_conditions(phone("low"))
    now = wait_until_fit(lambda: low, patience_s=60, clock=clock, sleep=clock.sleep)
    assert clock.now == 0
    assert now.complaints()


def test_fixed_performance_ends_with_the_block_even_after_an_error() -> None:
    device = phone()
    with pytest.raises(KeyError), fixed_performance(device) as held:
        assert held
        raise KeyError
    assert [asked.rpartition(" ")[2] for asked in device.asked] == ["true", "false"]


def test_fixed_performance_tells_when_a_phone_does_not_offer_it() -> None:
    device = Phone({}, agrees=False)
    with fixed_performance(device) as held:
        assert not held
    assert len(device.asked) == 1


@pytest.mark.parametrize(("threads", "cores"), [(1, (8,)), (2, (4, 5, 8)), (4, (0, 4, 5, 8))])
def test_big_cores_come_in_whole_clusters(threads: int, cores: tuple[int, ...]) -> None:
    assert big_cores(parse_clocks(CLOCKS), threads) == cores


@pytest.mark.parametrize("threads", [0, 5])
def test_more_big_cores_than_there_are_is_an_error(threads: int) -> None:
    with pytest.raises(UnsupportedError, match="4 cores"):
        big_cores(parse_clocks(CLOCKS), threads)


def test_gates_are_those_that_results_are_judged_by() -> None:
    assert LOW_BATTERY_PERCENT == device_rules.LOW_BATTERY_PERCENT
    assert CHARGED_PERCENT == device_rules.CHARGED_PERCENT
