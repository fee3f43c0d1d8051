"""Rows for people: a console table and a Markdown page. JSON rows are the rows themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.rows import Row
from benchmarks.verdict import Outcome

_STYLES = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.NOT_RUN: "yellow"}

LATENCY_NOTE = (
    "Host latency ratio: the file's median over that of the fp32 file of the same runtime, timed "
    "in turn on this machine; ? marks one measured under INVALID conditions. It says nothing about "
    "a phone."
)
_DROP_NOTE = (
    "PSNR and residual SNR are against the trained float network; drop is what the file loses to "
    "it against the truth (also for all-in-focus and refocus alone), gain kept how much of its "
    "improvement over the wide picture is left."
)


def _number(value: float | None, pattern: str) -> str:
    # "z" turns -0.000 into 0.000.
    return "-" if value is None else format(value, "z" + pattern)


def _split(row: Row, kind: str, figure: str) -> float | None:
    return row.splits.get(kind, {}).get(figure)


def _ratio(row: Row) -> str:
    valid = row.latency_validity in (None, "VALID")
    return _number(row.latency_ratio, ".2f") + ("" if valid else "?")


_COLUMNS: dict[str, Callable[[Row], str]] = {
    "runtime": lambda row: f"{row.runtime} {row.backend}",
    "recipe": lambda row: row.recipe,
    "resolution": lambda row: row.resolution,
    "verdict": lambda row: row.verdict,
    "MB": lambda row: _number(row.artifact_bytes / 1e6, ".2f"),
    "of fp32": lambda row: _number(row.size_ratio, ".2f"),
    "PSNR dB": lambda row: _number(row.psnr_db, ".1f"),
    "residual SNR dB": lambda row: _number(row.residual_snr_db, ".1f"),
    "drop dB": lambda row: _number(row.drop_db, ".3f"),
    "worst drop": lambda row: _number(row.worst_drop_db, ".3f"),
    "in focus drop": lambda row: _number(_split(row, "all-in-focus", "drop_db"), ".3f"),
    "refocus drop": lambda row: _number(_split(row, "refocus", "drop_db"), ".3f"),
    "gain kept": lambda row: _number(row.gain_kept, ".1%"),
    "host latency ratio": _ratio,
}
_WORDS = ("runtime", "recipe", "resolution", "verdict")


def print_rows(rows: Sequence[Row], console: Console) -> None:
    """The table, then a line for every row that did not pass, then what the columns mean."""
    table = Table(title="Parity and quality on this machine")
    for heading in _COLUMNS:
        words = heading in _WORDS
        table.add_column(heading, justify="left" if words else "right", no_wrap=words)
    for row in rows:
        style = _STYLES[Outcome(row.verdict)]
        cells = {heading: escape(cell(row)) for heading, cell in _COLUMNS.items()}
        cells["verdict"] = f"[{style}]{cells['verdict']}[/{style}]"
        table.add_row(*cells.values())
    console.print(table)
    for row in rows:
        if row.reason:
            console.print(f"{_name(row)}: {row.verdict} ({row.reason})", markup=False)
    console.print(_DROP_NOTE, markup=False)
    console.print(LATENCY_NOTE, markup=False)


def markdown(rows: Sequence[Row]) -> str:
    """The page ``results/report.md``: the table, quality by target, the chain, latency."""
    sections = [
        "# What was measured\n",
        _table(list(_COLUMNS), [[cell(row) for cell in _COLUMNS.values()] for row in rows]),
        f"\n{_DROP_NOTE}\n",
        _reasons(rows),
        "## Against the truth, by target\n",
        _table(_QUALITY_HEADINGS, [line for row in rows for line in _quality_lines(row)]),
        "\n## Where decibels are lost\n",
        _table(_HOP_HEADINGS, [line for row in rows for line in _hop_lines(row)]),
        "\n## Host latency\n",
        f"{LATENCY_NOTE}\n",
        _table(_LATENCY_HEADINGS, [_latency_line(row) for row in rows if row.median_ms]),
        "",
    ]
    return "\n".join(sections)


def _name(row: Row) -> str:
    return f"{row.runtime} {row.backend} {row.recipe} {row.resolution}"


def _reasons(rows: Sequence[Row]) -> str:
    lines = [f"- {_name(row)}: {row.verdict} ({row.reason})" for row in rows if row.reason]
    return "\n".join([*lines, ""])


_QUALITY_HEADINGS = ["file", "target", "W dB", "blend dB", "float dB", "file dB", "drop dB", "SSIM"]


def _quality_lines(row: Row) -> list[list[str]]:
    patterns = dict.fromkeys(("input_db", "blend_db", "float_db", "candidate_db"), ".2f")
    patterns |= {"drop_db": ".3f", "ssim": ".4f"}
    return [
        [_name(row), kind, *(_number(figures.get(n), p) for n, p in patterns.items())]
        for kind, figures in row.splits.items()
    ]


_HOP_HEADINGS = ["file", "from", "to", "PSNR dB", "worst dB", "residual SNR dB", "max abs", "bar"]


def _hop_lines(row: Row) -> list[list[str]]:
    return [[_name(row), *_hop_cells(hop)] for hop in row.hops]


def _hop_cells(hop: dict[str, Any]) -> list[str]:
    return [
        str(hop["reference"]),
        str(hop["candidate"]),
        _number(hop["psnr_db"], ".1f"),
        _number(hop["worst_psnr_db"], ".1f"),
        _number(hop["residual_snr_db"], ".1f"),
        _number(hop["max_abs"], ".2g"),
        str(hop["verdict"]),
    ]


_LATENCY_HEADINGS = ["file", "protocol", "threads", "median ms", "ratio", "validity"]


def _latency_line(row: Row) -> list[str]:
    return [
        _name(row),
        str(row.latency_protocol),
        str(row.threads),
        _number(row.median_ms, ".1f"),
        _number(row.latency_ratio, ".2f"),
        str(row.latency_validity),
    ]


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return "Nothing was measured."
    rows = [headings, ["---"] * len(headings), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in r) + " |" for r in rows)
