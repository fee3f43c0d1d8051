"""Where int8 is not faster than float, the report says so and names the float file."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.recommendation import recommendations
from benchmarks.report import markdown, print_rows
from benchmarks.row import Row


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    """LiteRT's rows of this machine in the shipped results, by recipe."""
    every = [Row(**row) for row in json.loads(Path("docs/results.json").read_text())]
    valid = [replace(row, latency_validity="VALID") for row in every]
    return {row.recipe: row for row in valid if row.runtime == "litert" and not row.runner}


def at(row: Row, ratio: float | None) -> Row:
    return replace(row, latency_ratio=ratio)


def test_int8_that_is_faster_is_not_spoken_of(rows: dict[str, Row]) -> None:
    assert recommendations(list(rows.values())) == []


def test_int8_as_slow_as_the_fastest_float_file_gives_way_to_it(rows: dict[str, Row]) -> None:
    timed = [at(rows["fp32"], 1.0), at(rows["fp16"], 0.8), at(rows["int8"], 0.8)]

    assert recommendations(timed) == [
        "litert xnnpack 768x1024: int8 takes 1.00 of the time of fp16. Ship fp16."
    ]


def test_a_doubtful_measurement_says_so(rows: dict[str, Row]) -> None:
    doubtful = replace(at(rows["int8"], 1.2), latency_validity="INVALID (hot)")

    (said,) = recommendations([at(rows["fp32"], 1.0), doubtful])

    assert "1.20 of the time of fp32 (measured under INVALID conditions: measure again)" in said


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "failed"},
        {"latency_ratio": None},
        {"resolution": "256x256"},
        {"device": "another"},
        {"backend": "another"},
    ],
)
def test_only_a_float_file_that_passed_and_was_timed_with_it_is_a_rival(
    change: dict[str, str | None], rows: dict[str, Row]
) -> None:
    slow = at(rows["int8"], 2.0)
    rival = at(rows["fp32"], 1.0)

    assert len(recommendations([rival, slow])) == 1
    assert recommendations([replace(rival, **change), slow]) == []  # type: ignore[arg-type]


def test_what_was_not_timed_is_not_judged(rows: dict[str, Row]) -> None:
    assert recommendations([at(rows["fp32"], 1.0), at(rows["int8"], None)]) == []


def test_the_console_and_the_page_say_it(rows: dict[str, Row]) -> None:
    timed = [at(rows["fp32"], 1.0), at(rows["int8"], 1.5)]
    stream = io.StringIO()

    print_rows(timed, Console(file=stream, width=200))

    for text in (stream.getvalue(), markdown(timed)):
        assert "int8 takes 1.50 of the time of fp32. Ship fp32." in text
