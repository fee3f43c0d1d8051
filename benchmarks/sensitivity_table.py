"""The table of docs/sensitivity.md: where int8 costs most, from studies as they were written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

SHOWN = 15
"""Tensors of a study that the page shows."""

_HEADINGS = (
    "tensor",
    "kind",
    "share of the noise",
    "int8 alone, PSNR mean / worst",
    "drop, int8 alone",
    "regained, float alone",
    "of the worst drop",
    "of all MACs",
)


def render_sensitivity(studies: Sequence[dict[str, Any]]) -> str:
    """Markdown, a table per study; a study is what ``python -m quantize sensitivity`` wrote."""
    return "\n\n".join("\n".join(_lines(study)) for study in studies)


def _lines(study: dict[str, Any]) -> Iterator[str]:
    rows, int8 = study["rows"], study["int8"]
    yield (
        f"`{study['recipe']}` before corrections, everything int8: {int8['psnr_db']:.1f} dB from "
        f"float (worst {int8['worst_psnr_db']:.1f}), drop {int8['drop_db']:z.3f} dB (worst "
        f"{int8['worst_drop_db']:z.3f}). The {min(SHOWN, len(rows))} noisiest of {len(rows)} "
        "tensors:"
    )
    yield ""
    yield _line(_HEADINGS)
    yield _line(["---"] * len(_HEADINGS))
    total = sum(row["macs"] for row in rows if row["kind"] == "weight")
    yield from (_line(_cells(row, total)) for row in rows[:SHOWN])


def _cells(row: dict[str, Any], total_macs: int) -> list[str]:
    alone = row["alone"]
    return [
        f"`{row['name']}`",
        row["kind"],
        f"{row['noise_share']:.1%}",
        f"{alone['psnr_db']:.1f} / {alone['worst_psnr_db']:.1f} dB",
        f"{alone['drop_db']:z.4f} dB",
        f"{row['regained_db']:z.4f} dB",
        f"{row['worst_regained_db']:z.4f} dB",
        f"{row['macs'] / total_macs:.1%}" if row["kind"] == "weight" else "",
    ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
