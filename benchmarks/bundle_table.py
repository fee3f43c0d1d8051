"""The table of docs/bundles.md, and the bar of its ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

RATIO = 1.10
"""A bundle of three resolutions over the largest of its single files."""

_HEADINGS = (
    "runtime",
    "recipe",
    "resolutions",
    "one file",
    "bundle",
    "ratio",
    "constants in one",
    "constants in the bundle",
    "bar of 1.10",
)


def render_bundles(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown, a line per bundle; a row is ``facts.bundle`` with what the file is."""
    lines = [_line(_HEADINGS), _line(["---"] * len(_HEADINGS))]
    return "\n".join([*lines, *(_line(_cells(row)) for row in rows)])


def _cells(row: dict[str, Any]) -> list[str]:
    single, constants = row["single_bytes"], row["single_constant_bytes"]
    return [
        row["runtime"],
        row["recipe"],
        ", ".join(single),
        f"{max(single.values()):,} B",
        f"{row['bytes']:,} B",
        f"{row['ratio']:.3f}",
        f"{max(constants.values()):,} B",
        f"{row['constant_bytes']:,} B",
        "passed" if row["ratio"] <= RATIO else "missed",
    ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
