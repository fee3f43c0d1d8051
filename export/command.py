"""What ``python -m export`` does: check every argument, build, print a table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from rich.table import Table

from dfnet.capture import Split
from dfnet.captureset import CaptureSet, open_captures, require_disjoint, require_split
from dfnet.console import EXIT_ERROR, EXIT_OK, Progress, results_console
from dfnet.devices import find_device
from dfnet.errors import CaptureError, UnsupportedError
from dfnet.logs import show_log_records
from dfnet.network import NetworkChoice
from dfnet.profiles import RESOLUTIONS, Resolution, parse_resolution
from export.build_report import BuildReport, BuildRow
from export.pipeline import BuildRequest, build
from export.plan import Selection
from export.variants import Platform
from export.workplace import LOG_NAME


@dataclass(frozen=True)
class Options:
    """The command line as given; see ``python -m export --help``."""

    platform: str
    runtimes: tuple[str, ...]
    recipes: tuple[str, ...]
    resolutions: tuple[str, ...]
    device: str | None
    bundle: bool
    checkpoint: Path | None
    factory: str | None
    weights: Path | None
    calibration: Path
    captures: Path | None
    output: Path
    threads: int | None
    as_json: bool
    verbose: bool


def export(options: Options) -> int:
    """Builds what the options ask for and prints it; returns the exit code.

    Raises:
        DFNetError: an option is wrong, or the build fails as a whole; see ``build``.
    """
    if options.verbose:
        show_log_records()
    if options.threads:
        torch.set_num_threads(options.threads)
    network = NetworkChoice(options.checkpoint, options.factory, options.weights)
    request = BuildRequest(
        selection=_selection(options),
        checkpoint=network.load(),
        calibration=_calibration(options),
        output=options.output,
    )
    with Progress() as progress:
        report = build(request, progress)
    _print(report, options)
    return EXIT_OK if report.succeeded else EXIT_ERROR


def _selection(options: Options) -> Selection:
    return Selection(
        platform=cast(Platform, options.platform),  # Selection checks it
        resolutions=_resolutions(options),
        runtimes=options.runtimes,
        recipes=options.recipes,
        bundle=options.bundle,
    )


def _resolutions(options: Options) -> tuple[Resolution, ...]:
    if options.device is None:
        return tuple(map(parse_resolution, options.resolutions)) or (RESOLUTIONS["preview"],)
    if options.resolutions:
        raise UnsupportedError(
            f"Resolutions: got --device {options.device!r} and --resolution "
            f"{' '.join(options.resolutions)}, needed one of the two. Drop one."
        )
    device = find_device(options.device)
    if device.platform != options.platform:
        raise UnsupportedError(
            f"Device {device.name}: got platform {options.platform}, needed {device.platform}. "
            "Change --platform or --device."
        )
    return device.resolutions


def _calibration(options: Options) -> CaptureSet:
    calibration = require_split(open_captures(options.calibration), Split.CALIBRATION)
    if options.captures is not None:
        scoring = open_captures(options.captures)
        if scoring.split in (Split.CALIBRATION, Split.TRAINING):
            raise CaptureError(
                f"Capture set {options.captures}: got the split {scoring.split}, needed "
                f"{Split.HELD_OUT} or {Split.VALIDATION} to score with. Give other captures."
            )
        require_disjoint(calibration, scoring)
    return calibration


def _print(report: BuildReport, options: Options) -> None:
    console = results_console()
    if options.as_json:
        console.print_json(json.dumps([row.to_json() for row in report.rows]))
        return
    console.print(_table(report))
    for row in report.rows:
        if row.reason:
            console.print(f"{row.job}: {row.reason}", markup=False)
    folder = options.output / options.platform
    console.print(
        f"{report.count('built')} built, {report.count('reused')} reused in {folder}. "
        f"Log: {folder / LOG_NAME}",
        markup=False,
    )


_HEADINGS = ("runtime", "backend", "recipe", "resolution", "status")
_FIGURES = ("MB", "delegate calls", "convolutions off delegate", "seconds")


def _table(report: BuildReport) -> Table:
    table = Table(title="Files for the phone")
    for heading in _HEADINGS:
        table.add_column(heading, no_wrap=True)
    for heading in _FIGURES:
        table.add_column(heading, justify="right")
    for row in report.rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: BuildRow) -> tuple[str, ...]:
    flat = row.to_json()
    size = flat["artifact_bytes"]
    return (
        *(str(flat[heading]) for heading in _HEADINGS),
        "" if size is None else f"{size / 1e6:.2f}",
        _or_blank(flat["delegate_calls"]),
        _or_blank(flat["undelegated_convolutions"]),
        f"{row.seconds:.1f}",
    )


def _or_blank(count: int | None) -> str:
    return "" if count is None else str(count)
