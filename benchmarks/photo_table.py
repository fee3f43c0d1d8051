"""The table of docs/photos.md, and the bars of its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HALO_RATIO = 1.45
INT8_PEAK_MB = 700.0
RUN_RATIO = 1.15
FLOAT_SEAM = 1e-5
INT8_LEVELS = 1

_HEADINGS = (
    "runtime",
    "recipe",
    "photo",
    "tiles",
    "halo ratio",
    "peak memory",
    "seconds over tiles",
    "over ideal",
    "whole frame against tiles",
    "largest difference",
    "bars",
)


def missed_bars(row: dict[str, Any]) -> list[str]:
    """Names of the figures of one row that miss their bar; what was not measured misses none."""
    quantized = row["precision"] == "w8a8"
    seams = row["seams"]
    checks = {
        "halo ratio": row["halo_ratio"] <= HALO_RATIO,
        "peak memory": not quantized or row["peak_mb"] <= INT8_PEAK_MB,
        "run time": row["run_validity"] != "VALID" or row["run_ratio"] <= RUN_RATIO,
        "seams": seams is None
        or (seams["levels"] <= INT8_LEVELS if quantized else seams["difference"] <= FLOAT_SEAM),
    }
    return [name for name, holds in checks.items() if not holds]


def render_photos(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown, a line per file."""
    lines = [_line(_HEADINGS), _line(["---"] * len(_HEADINGS))]
    return "\n".join([*lines, *(_line(_cells(row)) for row in rows)])


def _cells(row: dict[str, Any]) -> list[str]:
    missed = missed_bars(row)
    return [
        f"{row['runtime']} ({row['backend']})",
        row["recipe"],
        row["photo"],
        f"{row['tiles']} of {row['tile']}",
        f"{row['halo_ratio']:.3f}",
        f"{row['peak_mb']:.0f} MB",
        f"{row['tiles_s']:.1f}",
        f"{row['run_ratio']:.2f}" + ("" if row["run_validity"] == "VALID" else " (INVALID)"),
        *_seam_cells(row["seams"]),
        f"failed: {', '.join(missed)}" if missed else _verdict(row),
    ]


def _seam_cells(seams: dict[str, Any] | None) -> tuple[str, str]:
    if seams is None:
        return "not run", ""
    levels = f"{seams['levels']} level{'' if seams['levels'] == 1 else 's'}"
    return (
        f"{seams['frame']}, {seams['tiles']} of {seams['tile']}",
        f"{seams['difference']:.1e}, {levels}",
    )


def _verdict(row: dict[str, Any]) -> str:
    not_run = [
        name
        for name, measured in (
            ("run time", row["run_validity"] == "VALID"),
            ("seams", row["seams"] is not None),
        )
        if not measured
    ]
    return f"passed; not run: {', '.join(not_run)}" if not_run else "passed"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
