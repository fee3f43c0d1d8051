"""The table of quantization's steps: a line per runtime, a column per recipe."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.ablation import STEPS, render_steps
from dfnet.errors import ArtifactError
from export.variants import STUDIED
from quantize.recipe import RECIPES


def row(recipe: str, **changes: Any) -> dict[str, Any]:
    return {
        "runtime": "litert",
        "backend": "xnnpack",
        "recipe": recipe,
        "resolution": "256x256",
        "verdict": "passed",
        "drop_db": 0.0124,
        "worst_drop_db": 0.25,
        "psnr_db": 53.21,
        "worst_psnr_db": 50.04,
        "latency_ratio": 0.314,
        "latency_validity": "VALID",
    } | changes


def tables(*rows: dict[str, Any]) -> list[list[list[str]]]:
    """Cells of the three tables: drops, PSNR, latency."""
    parts = [part for part in render_steps(rows).split("\n\n") if part.startswith("|")]
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()]
        for part in parts
    ]


def test_a_recipe_is_a_column_and_a_runtime_a_line() -> None:
    drops, psnr, latency = tables(row("fp32"), row("int8-naive"), row("int8", drop_db=0.002))
    assert drops[0] == ["runtime", STEPS["int8-naive"], STEPS["int8"]]
    assert drops[2] == ["litert (xnnpack)", "0.012 / 0.250", "0.002 / 0.250"]
    assert psnr[2][1] == "53.2 / 50.0"
    assert latency[2][1] == "0.31"


def test_what_is_missing_or_doubtful_is_said() -> None:
    unmeasured = dict.fromkeys(("drop_db", "worst_drop_db", "latency_ratio"))
    drops, _, latency = tables(
        row("int8-naive", **unmeasured),
        row("int8", latency_validity="INVALID", verdict="failed"),
        row("sdk-default", runtime="onnx", backend="cpu"),
    )
    assert drops[2] == ["litert (xnnpack)", "no such file", "not run", "0.012 / 0.250 ✗"]
    assert latency[2][2:] == ["not run", "0.31 (INVALID)"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "of no rows"),
        ([row("int8"), row("int8", resolution="64x64")], "256x256, 64x64, needed one"),
        ([row("int8"), row("int8")], "two rows of litert xnnpack int8"),
        ([row("int8"), row("mine")], "got the recipe mine"),
    ],
)
def test_rows_that_make_no_one_table_are_refused(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        render_steps(rows)


def test_every_recipe_that_is_studied_has_a_column() -> None:
    assert set(STEPS) <= set(RECIPES)
    assert set(STUDIED) <= set(STEPS)
