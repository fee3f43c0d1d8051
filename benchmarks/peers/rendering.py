"""docs/performance.md's tables, from what ``python -m benchmarks.peers --json`` printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_Row = Mapping[str, Any]
_Cell = Callable[[_Row], str]


def _number(key: str, pattern: str, unit: str = "") -> _Cell:
    def cell(row: _Row) -> str:
        value = row[key]
        return "not run" if value is None else format(value, pattern) + unit

    return cell


def _share_of_peak(row: _Row) -> str:
    if row["gmac_per_s"] is None or row["peak_gmac_per_s"] is None:
        return "not run"
    return (
        f"{row['gmac_per_s']:.0f} of {row['peak_gmac_per_s']:.0f} "
        f"({row['gmac_per_s'] / row['peak_gmac_per_s']:.0%})"
    )


def _drops(mean: str, worst: str) -> _Cell:
    def cell(row: _Row) -> str:
        figures = row[mean], row[worst]
        return "not run" if None in figures else "{:z.3f} / {:z.3f}".format(*figures)

    return cell


_SPEED: dict[str, _Cell] = {
    "runtime": lambda row: str(row["runtime"]),
    "int8 over the SDK's int8": _number("speed_ratio", ".2f", "x"),
    "int8 over fp32": _number("over_fp32", ".2f", "x"),
    "int8-full over fp32": _number("full_over_fp32", ".2f", "x"),
    "fusing, fp32": _number("fusing_ratio", ".2f", "x"),
    "GMAC/s of peak": _share_of_peak,
    "times": lambda row: "VALID" if row["validity"] == "VALID" else f"INVALID ({row['validity']})",
}
_QUALITY: dict[str, _Cell] = {
    "runtime": lambda row: str(row["runtime"]),
    "int8 drop, mean / worst": _drops("ours_drop_db", "ours_worst_drop_db"),
    "the SDK's int8 drop": _drops("peer_drop_db", "peer_worst_drop_db"),
    "int8-full drop, mean": _number("full_drop_db", "z.3f"),
    "int8 size": lambda row: f"{row['ours_bytes'] / 1e6:.2f} MB",
    "the SDK's int8 size": lambda row: f"{row['peer_bytes'] / 1e6:.2f} MB",
    "fp32 size": lambda row: f"{row['fp32_bytes'] / 1e6:.2f} MB",
}


_LEAST = 0.01
"""Operators with a smaller share of the time are not named."""


def render_peers(rows: Sequence[_Row]) -> str:
    """Markdown: what is faster, and what it costs in dB and bytes; a line per runtime."""
    sizes = ", ".join(sorted({str(row["resolution"]) for row in rows}))
    return "\n\n".join(
        (
            f"{sizes}. Ratios of speed: 2x takes half the time.",
            _table(rows, _SPEED),
            "Drops against the truth in dB, held-out captures:",
            _table(rows, _QUALITY),
            *(_profile(row) for row in rows if row["profile_ms"]),
        )
    )


def _profile(row: _Row) -> str:
    """One sentence: the shares of what takes most of the time."""
    total = sum(row["profile_ms"].values())
    shares = {kind: ms / total for kind, ms in row["profile_ms"].items() if ms >= _LEAST * total}
    parts = ", ".join(f"{share:.0%} {kind}" for kind, share in shares.items())
    return f"Where {row['runtime']}'s int8 file spends its time: {parts}."


def _table(rows: Sequence[_Row], columns: Mapping[str, _Cell]) -> str:
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[cell(row) for cell in columns.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
