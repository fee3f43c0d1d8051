"""``python -m benchmarks baseline`` and ``compare``: accept what was measured, or judge it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.baseline import Found, Measured, read_baselines, write_baseline
from benchmarks.device_parity import all_device_parities
from benchmarks.device_results import all_device_latencies
from benchmarks.junit import write_junit
from benchmarks.measured import find_measured
from benchmarks.regression import Regression, compare, missing, refused
from benchmarks.results import all_checks, all_comparisons
from benchmarks.rows import build_rows
from benchmarks.selection import Choice, choose, read_artifacts
from benchmarks.two_runs import compare_runs, is_worse, read_report, to_json
from benchmarks.verdict import Outcome
from dfnet.console import EXIT_MISSED_BAR, EXIT_OK, progress_console, results_console
from dfnet.errors import MetricError

_STYLES = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.NOT_RUN: "yellow"}


def write_baselines(platform: str | None, output: Path, folder: Path) -> int:
    """Writes a baseline of everything that was measured under VALID conditions.

    Raises:
        MetricError: nothing was, or files of several networks were.
        ArtifactError: there are no artifacts, or the folder cannot be written.
    """
    found = _measured(platform, output)
    valid = [one for one in found if not one.invalid_reasons]
    for one in found:
        if one.invalid_reasons:
            reasons = "; ".join(one.invalid_reasons)
            progress_console().print(f"{one.measured.name}: left out, INVALID ({reasons})")
    if not valid:
        raise MetricError(
            f"Results in {output / 'results'}: got {len(found)} full measurements, none VALID; "
            "needed at least one. Run `make bench` on a quiet machine first."
        )
    _require_one_of_a_kind(valid, output)
    for one in valid:
        results_console().print(str(write_baseline(folder, one.measured)), markup=False)
    return EXIT_OK


def compare_with_baselines(
    platform: str | None, output: Path, folder: Path, junit: Path | None
) -> int:
    """Compares what was measured with its baselines; 1 when anything is worse or was not compared.

    Raises:
        ArtifactError: there are no baselines or no artifacts.
    """
    baselines = [one for one in read_baselines(folder) if platform in (None, one.setting.platform)]
    found = _measured(platform, output)
    _require_one_of_a_kind(found, output)
    regressions = [_regression(baseline, found) for baseline in baselines]
    if not regressions:
        raise MetricError(
            f"Baselines in {folder}: got none for {platform}, needed at least one. Write them "
            "from results you accept: make baseline"
        )
    if junit is not None:
        write_junit(junit, regressions, title="benchmarks compare")
    print_regressions(regressions, results_console())
    known = {baseline.cell for baseline in baselines}
    for one in found:
        if one.measured.cell not in known:
            progress_console().print(f"{one.measured.name}: has no baseline yet", markup=False)
    passed = all(one.verdict.is_passed for one in regressions)
    return EXIT_OK if passed else EXIT_MISSED_BAR


def compare_two(
    old: Path, new: Path, platform: str | None, junit: Path | None, *, as_json: bool
) -> int:
    """Compares two reports; 1 when anything is worse, or could not be compared but for ratios.

    Raises:
        ArtifactError: one cannot be read.
        MetricError: they have no file in common, or a report no rows.
    """
    regressions = compare_runs(read_report(old, platform), read_report(new, platform))
    if junit is not None:
        write_junit(junit, regressions, title=f"{old} -> {new}")
    if as_json:
        results_console().print_json(json.dumps(to_json(regressions), allow_nan=False))
    else:
        print_regressions(regressions, results_console())
    return EXIT_MISSED_BAR if any(map(is_worse, regressions)) else EXIT_OK


def _measured(platform: str | None, output: Path) -> list[Found]:
    artifacts = read_artifacts(output)
    chosen = choose(artifacts, Choice(platform=platform), output=output)
    results = output / "results"
    comparisons, devices = tuple(all_comparisons(results)), tuple(all_device_latencies(results))
    parities = tuple(all_device_parities(results))
    rows = build_rows(artifacts, all_checks(results), comparisons, devices, parities)
    wanted = {(artifact.manifest.platform, artifact.id) for artifact in chosen}
    rows = [row for row in rows if (row.platform, row.artifact) in wanted]
    return find_measured(rows, comparisons, devices, parities)


def _require_one_of_a_kind(found: Sequence[Found], output: Path) -> None:
    """Two networks' files of one kind would stand for each other."""
    files: dict[tuple[str, ...], set[str]] = {}
    for one in found:
        files.setdefault(one.measured.cell, set()).add(one.measured.artifact)
    for several in files.values():
        if len(several) > 1:
            raise MetricError(
                f"Files in {output}: got {' and '.join(sorted(several))} of one kind, needed one. "
                "Keep each network's files in an --output of their own."
            )


def _regression(baseline: Measured, found: Sequence[Found]) -> Regression:
    same = [one for one in found if one.measured.cell == baseline.cell]
    # Several settings of one cell: the one that is alike is meant, if there is one.
    same.sort(key=lambda one: one.measured.setting != baseline.setting)
    if not same:
        return missing(baseline)
    try:
        return compare(baseline, same[0])
    except MetricError as error:
        return refused(baseline, error)


def print_regressions(regressions: Sequence[Regression], console: Console) -> None:
    """A line per file, then what changed and every check that did not pass."""
    for one in regressions:
        console.print(f"{one.name}: {one.verdict.outcome}", style=_STYLES[one.verdict.outcome])
        for line in one.changes:
            console.print(f"  {line}", markup=False)
        for check, verdict in one.checks.items():
            if not verdict.is_passed:
                console.print(f"  {check}: {verdict}", markup=False)
