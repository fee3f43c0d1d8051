"""Renders a page's tables from a report's rows, so that no number is typed by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.ablation import render_steps
from benchmarks.bundle_table import render_bundles
from benchmarks.peers.rendering import render_peers
from benchmarks.photo_table import render_photos
from benchmarks.sensitivity_table import render_sensitivity
from dfnet.errors import ArtifactError

START, END = "<!-- results: rendered by `python -m benchmarks readme` -->", "<!-- /results -->"

_HEADINGS = (
    "platform",
    "runtime",
    "recipe",
    "judged by",
    "size",
    "of fp32",
    "PSNR vs float",
    "residual SNR",
    "drop vs truth",
    "worst drop",
    "gain kept",
    "latency vs fp32",
    "verdict",
)


def update(readme: Path, results: Path, *, layout: str = "files") -> bool:
    """Rewrites the block between the markers in one of ``LAYOUTS``; returns whether it changed.

    Raises:
        ArtifactError: the results cannot be read or shown, or the README has no markers.
    """
    text = readme.read_text()
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ArtifactError(f"{readme}: got no block between {START} and {END}. Restore both.")
    new = f"{before}{START}\n{LAYOUTS[layout](_read(results))}\n{END}{after}"
    part = readme.with_suffix(".part")
    part.write_text(new)
    os.replace(part, readme)
    return new != text


def _read(results: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(results.read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"Results {results}: cannot be read ({error}). Write them with "
            "`python -m benchmarks report --json`."
        ) from error
    if isinstance(rows, dict):  # a study is one object
        return [rows]
    if not isinstance(rows, list) or not rows:
        raise ArtifactError(f"Results {results}: got no rows, needed at least one.")
    return rows


def render(rows: list[dict[str, Any]]) -> str:
    """Markdown of the quality gained by the float network and of every exported file."""
    lines = [_gains(rows), "", _line(_HEADINGS), _line(["---"] * len(_HEADINGS))]
    measured_first = sorted(rows, key=lambda row: bool(row["verdict"] == "not run"))
    lines += [_line(_cells(row)) for row in measured_first]
    return "\n".join(lines)


def _gains(rows: list[dict[str, Any]]) -> str:
    """What the float network reaches on the held-out captures, beside inputs and baseline."""
    measured = next((row for row in rows if row["recipe"] == "fp32" and row["splits"]), None)
    if measured is None:
        return "The float network was not measured."
    lines = [
        _line(("held-out captures, PSNR", "wide", "naive blend", "DFNet float")),
        _line(["---"] * 4),
    ]
    for kind, figures in measured["splits"].items():
        names = ("input_db", "blend_db", "float_db")
        lines.append(_line([kind, *(_number(figures[n], ".2f", " dB") for n in names)]))
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> list[str]:
    verdict = row["verdict"] + (f" ({row['reason']})" if row["reason"] else "")
    return [
        row["platform"],
        f"{row['runtime']} ({row['backend']})",
        row["recipe"],
        _judge(row),
        _number(row["artifact_bytes"] / 1e6, ".2f", " MB"),
        _number(row["size_ratio"], ".2f"),
        _number(row["psnr_db"], ".1f", " dB"),
        _number(row["residual_snr_db"], ".1f", " dB"),
        _number(row["drop_db"], "z.3f", " dB"),
        _number(row["worst_drop_db"], "z.3f", " dB"),
        _number(row["gain_kept"], ".1%"),
        _latency(row),
        verdict,
    ]


def _judge(row: dict[str, Any]) -> str:
    """What judged the pictures; nothing where nothing did."""
    if row.get("runner") is not None:
        return "" if row["verdict"] == "not run" else str(row["device"])
    # Results written before there were other judges name a device, always the host.
    kind = row.get("device_kind", "host" if row["device"] else None)
    return "reference evaluator" if kind == "evaluator" else str(kind or "")


def _latency(row: dict[str, Any]) -> str:
    """A host's ratio; a device's time and ratio under its name; else why there is none."""
    if row["median_ms"] is None:
        return str(row.get("latency_reason") or "")
    valid = row["latency_validity"] in (None, "VALID")
    ratio = _number(row["latency_ratio"], ".2f") + ("" if valid else " (INVALID)")
    if row.get("runner") is None:
        return ratio
    units = str(row["accelerator"]).replace("+", ", ").replace("_", " ")
    time = f"{row['median_ms']:.1f} ms" if row["device_kind"] == "device" else ""
    return f"{row['device']} ({units}): {', '.join(part for part in (time, ratio) if part)}"


def _number(value: float | None, pattern: str, unit: str = "") -> str:
    return "" if value is None else format(value, pattern) + unit


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


LAYOUTS: Mapping[str, Callable[[list[dict[str, Any]]], str]] = {
    "files": render,
    "steps": render_steps,
    "peers": render_peers,
    "photos": render_photos,
    "bundles": render_bundles,
    "sensitivity": render_sensitivity,
}
"""A line per file, a column per recipe, a line per file that did photos, a line per bundle, or a
line per tensor of a study."""
