"""Which file may be shipped, and which of those to take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.row import Row
from benchmarks.shipping import Decision, Ship, decide, overall, recommend, recommended


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    """LiteRT's rows of this machine in the shipped results, by recipe."""
    every = [Row(**row) for row in json.loads(Path("docs/results.json").read_text())]
    return {row.recipe: row for row in every if row.runtime == "litert" and not row.runner}


def on_device(row: Row, verdict: str, kind: str = "device", **changes: object) -> Row:
    found = replace(row, runner="r 1", device="Pixel", device_kind=kind, verdict=verdict)
    return replace(found, reason=None if verdict == "passed" else "off by 3", **changes)  # type: ignore[arg-type]


def with_verdict(row: Row, verdict: str) -> Row:
    return replace(row, verdict=verdict, reason=None if verdict == "passed" else "why")


def test_a_file_that_cleared_every_bar_here_may_be_shipped(rows: dict[str, Row]) -> None:
    decision = decide([rows["int8"]])
    assert (decision.ship, decision.reasons) == (Ship.SHIP, ())
    assert any("No phone" in line for line in decision.open)


@pytest.mark.parametrize(("verdict", "ship"), [("failed", Ship.NO), ("not run", Ship.UNVERIFIED)])
def test_a_file_that_failed_or_was_not_run_is_not_shipped(
    rows: dict[str, Row], verdict: str, ship: Ship
) -> None:
    decision = decide([with_verdict(rows["int8"], verdict)])
    assert (decision.ship, decision.reasons) == (ship, ("why",))


def test_a_device_that_computes_something_else_forbids_shipping(rows: dict[str, Row]) -> None:
    decision = decide([rows["int8"], on_device(rows["int8"], "failed")])
    assert decision.ship is Ship.NO
    assert decision.reasons == ("on Pixel: off by 3",)


def test_a_device_that_only_timed_neither_forbids_nor_verifies(rows: dict[str, Row]) -> None:
    timed = on_device(rows["int8"], "not run", psnr_db=None, hops=[], median_ms=3.0)
    assert decide([rows["int8"], timed]).ship is Ship.SHIP
    assert decide([with_verdict(rows["int8"], "not run"), timed]).ship is Ship.UNVERIFIED


def test_a_device_alone_verifies_nothing(rows: dict[str, Row]) -> None:
    assert decide([on_device(rows["int8"], "passed")]).ship is Ship.UNVERIFIED
    assert decide([]).ship is Ship.UNVERIFIED


def test_what_a_phone_measured_is_no_longer_open(rows: dict[str, Row]) -> None:
    phone = on_device(rows["int8"], "passed", median_ms=3.0)
    assert decide([rows["int8"], phone]).open == ()
    emulated = on_device(rows["int8"], "passed", kind="emulator")
    told = decide([rows["int8"], emulated]).open
    assert told == ("Outputs were not compared on a phone.", "No phone has timed it.")


def test_the_worst_decision_decides() -> None:
    made = {ship: Decision(ship, (), ()) for ship in Ship}
    assert overall(made.values()) is Ship.NO
    assert overall([made[Ship.SHIP], made[Ship.UNVERIFIED]]) is Ship.UNVERIFIED
    assert overall([made[Ship.SHIP]]) is Ship.SHIP
    assert overall([]) is Ship.UNVERIFIED


def taken(*rows: Row) -> str | None:
    (one,) = recommend([(row, decide([row])) for row in rows])
    return one.row.recipe if one.row else None


def test_the_fastest_file_with_the_usual_bars_is_taken(rows: dict[str, Row]) -> None:
    every = [rows[name] for name in ("fp32", "fp16", "int8", "int8-full")]
    assert taken(*every) == "int8"
    assert taken(*(replace(row, latency_ratio=1.0) for row in every[:2]), every[3]) == "fp32"


def test_a_file_that_failed_is_never_taken(rows: dict[str, Row]) -> None:
    assert taken(rows["fp32"], with_verdict(rows["int8"], "failed"), rows["fp16"]) != "int8"
    assert taken(with_verdict(rows["int8"], "failed")) is None


def test_one_with_looser_bars_is_taken_only_when_alone(rows: dict[str, Row]) -> None:
    (one,) = recommend([(rows["int8-full"], decide([rows["int8-full"]]))])
    assert one.row == rows["int8-full"]
    assert "looser bars" in one.why


def test_what_stands_alone_is_said_to(rows: dict[str, Row]) -> None:
    (one,) = recommend([(rows[name], decide([rows[name]])) for name in ("int8", "int8-full")])
    assert one.row == rows["int8"]
    assert one.why == "The only one held to the usual bars that may be shipped."


def test_without_times_the_smallest_float_file_is_taken(rows: dict[str, Row]) -> None:
    untimed = [replace(rows[n], latency_ratio=None) for n in ("fp32", "fp16", "int8")]
    assert taken(*untimed) == "fp16"


def test_a_doubtful_time_is_said(rows: dict[str, Row]) -> None:
    doubtful = replace(rows["int8"], latency_validity="INVALID (hot)")
    (one,) = recommend([(row, decide([row])) for row in (rows["fp32"], doubtful)])
    assert "INVALID: measure again" in one.why


def test_rows_alone_tell_which_file_to_take(rows: dict[str, Row]) -> None:
    every = [rows["fp32"], rows["int8"]]
    (one,) = recommended(every)
    assert one.row is rows["int8"]
    (other,) = recommended([*every, on_device(rows["int8"], "failed")])
    assert other.row is rows["fp32"]
    (neither,) = recommended([with_verdict(rows["int8"], "failed")])
    assert neither.row is None
