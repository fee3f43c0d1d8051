"""Rows for people: a console table and a Markdown page. JSON rows are the rows themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.recommendation import recommendations
from benchmarks.row import Row
from benchmarks.verdict import Outcome, Verdict

_STYLES = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.NOT_RUN: "yellow"}

LATENCY_NOTE = (
    "Latency ratio: the file's median over that of the fp32 file of the same runtime, on this host "
    "timed in turn; ? marks one measured under INVALID conditions. A host's says nothing about a "
    "phone; a time in ms is shown for devices alone."
)
_EVALUATOR_NOTE = (
    "The reference evaluator executes a saved Core ML program by its definition; it is no device, "
    "and has no latency."
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


def _latency(row: Row) -> str:
    """The ratio; on a device the time too; ``not run`` when there is no time at all."""
    if row.median_ms is None:
        return "not run"
    doubt = "" if row.latency_validity == "VALID" else "?"
    ratio = _number(row.latency_ratio, ".2f") + doubt
    return f"{row.median_ms:.1f}{doubt} ms, {ratio}" if row.device_kind == "device" else ratio


def _ran_on(row: Row) -> str:
    """``host``, ``reference evaluator``, or the device with the units that ran."""
    if row.runner is not None:
        units = (row.accelerator or "").upper().replace("NEURAL_ENGINE", "ANE")
        return f"{row.device} {units}".rstrip()
    kinds = {None: "-", "evaluator": "reference evaluator"}
    return kinds.get(row.device_kind, str(row.device_kind))


_COLUMNS: dict[str, Callable[[Row], str]] = {
    "runtime": lambda row: f"{row.runtime} {row.backend}",
    "recipe": lambda row: row.recipe,
    "resolution": lambda row: row.resolution,
    "ran on": _ran_on,
    "verdict": lambda row: row.verdict,
    "MB": lambda row: _number(row.artifact_bytes / 1e6, ".2f"),
    "of fp32": lambda row: _number(row.size_ratio, ".2f"),
    "PSNR dB": lambda row: _number(row.psnr_db, ".1f"),
    "resid. SNR dB": lambda row: _number(row.residual_snr_db, ".1f"),
    "drop dB": lambda row: _number(row.drop_db, ".3f"),
    "worst drop": lambda row: _number(row.worst_drop_db, ".3f"),
    "focus drop": lambda row: _number(_split(row, "all-in-focus", "drop_db"), ".3f"),
    "refocus drop": lambda row: _number(_split(row, "refocus", "drop_db"), ".3f"),
    "gain kept": lambda row: _number(row.gain_kept, ".1%"),
    "latency ratio": _latency,
}
_WORDS = ("runtime", "recipe", "resolution", "ran on", "verdict")
_EVALUATOR_WIDTH = len("evaluator")


def print_rows(rows: Sequence[Row], console: Console) -> None:
    """The table, then a line for every row that did not pass, then what the columns mean."""
    console.print(_console_table(rows))
    for row in rows:
        if row.reason:
            console.print(f"{_name(row)}: {row.verdict} ({row.reason})", markup=False)
    for line in (*recommendations(rows), *latency_reasons(rows), *_notes(rows)):
        console.print(line, markup=False)


def _console_table(rows: Sequence[Row]) -> Table:
    """As narrow as it can be: a resolution that all rows share stands in the title."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title_justify="left")
    sizes = {row.resolution for row in rows}
    table.title = f"Parity, quality and latency{f' at {sizes.pop()}' if len(sizes) == 1 else ''}"
    columns = {h: cell for h, cell in _COLUMNS.items() if sizes or h != "resolution"}
    for heading in columns:
        words = heading in _WORDS
        table.add_column(
            heading if words else heading.replace(" ", "\n", 1),
            justify="left" if words else "right",
            no_wrap=words and heading != "ran on",
            min_width=_EVALUATOR_WIDTH if heading == "ran on" else None,
        )
    for row in rows:
        style = _STYLES[Outcome(row.verdict)]
        cells = {heading: escape(cell(row)) for heading, cell in columns.items()}
        cells["verdict"] = f"[{style}]{cells['verdict']}[/{style}]"
        table.add_row(*cells.values())
    return table


def markdown(rows: Sequence[Row]) -> str:
    """The page ``results/report.md``: the table, quality by target, the chain, latency."""
    sections = [
        "# What was measured\n",
        _table(list(_COLUMNS), [[cell(row) for cell in _COLUMNS.values()] for row in rows]),
        *(f"\n{note}" for note in _notes(rows)),
        "",
        _reasons(rows),
        "## Against the truth, by target\n",
        _table(_QUALITY_HEADINGS, [line for row in rows for line in _quality_lines(row)]),
        "\n## Where decibels are lost\n",
        _table(_HOP_HEADINGS, [line for row in rows for line in _hop_lines(row)]),
        "\n## Every way a file was executed\n",
        _table(_EXECUTION_HEADINGS, [line for row in rows for line in _execution_lines(row)]),
        "\n## Latency\n",
        f"{LATENCY_NOTE}\n",
        _table(_LATENCY_HEADINGS, [_latency_line(row) for row in rows if row.median_ms]),
        "",
        *(f"- {line}" for line in (*recommendations(rows), *latency_reasons(rows))),
        "",
    ]
    return "\n".join(sections)


def _name(row: Row) -> str:
    file = f"{row.runtime} {row.backend} {row.recipe} {row.resolution}"
    return file if row.runner is None else f"{file} on {_ran_on(row)}"


def _notes(rows: Sequence[Row]) -> list[str]:
    evaluated = any(row.device_kind == "evaluator" for row in rows)
    return [_DROP_NOTE, LATENCY_NOTE, *([_EVALUATOR_NOTE] if evaluated else [])]


def latency_reasons(rows: Sequence[Row]) -> list[str]:
    """A line per reason for a missing time or ratio, with all files it holds for."""
    files: dict[str, list[str]] = {}
    for row in rows:
        if row.latency_reason:
            files.setdefault(row.latency_reason, []).append(_name(row))
    return [f"Latency {reason}: {', '.join(names)}" for reason, names in files.items()]


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


_EXECUTION_HEADINGS = ["file", "executed by", "PSNR dB", "worst dB", "drop dB", "verdict"]


def _execution_lines(row: Row) -> list[list[str]]:
    patterns = {"psnr_db": ".1f", "worst_psnr_db": ".1f", "drop_db": ".3f"}
    return [
        [
            _name(row),
            str(execution["device"]["name"]),
            *(_number(execution["figures"].get(n), p) for n, p in patterns.items()),
            str(Verdict.from_json(execution["verdict"])),
        ]
        for execution in row.executions
    ]


_LATENCY_HEADINGS = ["file", "ran on", "protocol", "threads", "median ms", "ratio", "validity"]


def _latency_line(row: Row) -> list[str]:
    return [
        _name(row),
        "host" if row.runner is None else _ran_on(row),
        str(row.latency_protocol),
        "-" if row.threads is None else str(row.threads),
        _number(row.median_ms, ".1f"),
        _number(row.latency_ratio, ".2f"),
        str(row.latency_validity),
    ]


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return "Nothing was measured."
    rows = [headings, ["---"] * len(headings), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in r) + " |" for r in rows)
