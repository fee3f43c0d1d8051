"""Rows and pages anew, from all results on disk: what every judging command ends with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.device_parity import all_device_parities
from benchmarks.device_results import all_device_latencies
from benchmarks.report import markdown, print_rows
from benchmarks.results import all_checks, all_comparisons, write_text
from benchmarks.row import Row
from benchmarks.rows import build_rows
from benchmarks.selection import read_artifacts
from benchmarks.shipping import recommended
from benchmarks.two_runs import REPORT
from dfnet.artifact import Artifact
from dfnet.console import Progress, results_console


def publish(
    chosen: Sequence[Artifact], output: Path, *, as_json: bool
) -> tuple[list[Row], tuple[Path, ...]]:
    """Prints the rows of ``chosen``; they and the paths of the pages that show them.

    Raises:
        ArtifactError: a file was altered, or a folder cannot be written.
    """
    everything = read_artifacts(output)
    rows = _rows(chosen, everything, output)
    pages = _pages(chosen, everything, output)
    _show(rows, output, as_json=as_json)
    return rows, pages


def point_to(pages: Sequence[Path], *, as_json: bool) -> None:
    """Says where the pages are; the last line of a command."""
    for page in () if as_json else pages:
        results_console().print(f"Report: {page}", markup=False, soft_wrap=True)


def write_report(output: Path) -> tuple[Path, ...]:
    """Writes OUTPUT/results/report.md and every platform's page anew, from all results there."""
    everything = read_artifacts(output)
    _rows((), everything, output)
    return _pages(everything, everything, output)


def _pages(
    chosen: Sequence[Artifact], everything: Sequence[Artifact], output: Path
) -> tuple[Path, ...]:
    """Writes the pages of the platforms of ``chosen``, with all their artifacts."""
    # Imported here because plotting takes a while to load.
    from benchmarks.html_report import write_pages

    platforms = {artifact.manifest.platform for artifact in chosen}
    shown = [one for one in everything if one.manifest.platform in platforms]
    with Progress() as progress, progress.step("Write the report"):
        return write_pages(output, shown)


def _rows(chosen: Sequence[Artifact], everything: Sequence[Artifact], output: Path) -> list[Row]:
    results = output / "results"
    kept = all_checks(results), all_comparisons(results), all_device_latencies(results)
    rows = build_rows(everything, *kept, all_device_parities(results))
    write_text(results / "report.md", markdown(rows))
    write_text(output / REPORT, json.dumps(rows_to_json(rows), allow_nan=False, indent=1) + "\n")
    wanted = {(artifact.manifest.platform, artifact.id) for artifact in chosen}
    return [row for row in rows if (row.platform, row.artifact) in wanted]


def _show(rows: Sequence[Row], output: Path, *, as_json: bool) -> None:
    console = results_console()
    if as_json:
        console.print_json(json.dumps(rows_to_json(rows), allow_nan=False))
        return
    print_rows(rows, console)
    for one in recommended(rows):
        file = "nothing" if one.row is None else output / one.row.platform / one.row.artifact
        console.print(f"Take {file} ({one.group}). {one.why}", markup=False, soft_wrap=True)
    console.print(f"Details: {output / 'results' / 'report.md'}", markup=False)


def rows_to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What `report --json` prints."""
    return [row.to_json() for row in rows]
