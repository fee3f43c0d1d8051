"""What ``python -m export lint`` does: reads a network, says what phones make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.table import Table

from dfnet.capture import Split
from dfnet.captureset import CaptureSet, open_captures, require_split
from dfnet.console import EXIT_MISSED_BAR, EXIT_OK, Progress, results_console
from dfnet.network import NetworkChoice
from dfnet.profiles import RESOLUTIONS, Precision
from export.plan import Job, Selection
from export.sdk_log import sdk_log
from export.variants import Platform
from export.workplace import LOG_NAME
from quantize.captures import require_calibration_captures
from quantize.recipe import find_recipe

if TYPE_CHECKING:
    from torch import nn

    from export.lint.matching import Finding
    from export.lint.overflow import Magnitude

_LARGEST = 5
"""Tensors shown where none overflows."""


@dataclass(frozen=True)
class Options:
    """The command line as given; see ``python -m export lint --help``."""

    platform: str
    runtimes: tuple[str, ...]
    recipes: tuple[str, ...]
    checkpoint: Path | None
    factory: str | None
    weights: Path | None
    calibration: Path
    output: Path
    as_json: bool


@dataclass(frozen=True)
class Report:
    """What was found for ``files`` files; ``magnitudes`` is None where none computes in float16."""

    files: int
    findings: tuple[Finding, ...]
    magnitudes: tuple[Magnitude, ...] | None

    @property
    def overflows(self) -> tuple[Magnitude, ...]:
        return tuple(magnitude for magnitude in self.magnitudes or () if magnitude.overflows)

    @property
    def problems(self) -> int:
        return sum(finding.is_problem for finding in self.findings) + len(self.overflows)


def lint(options: Options) -> int:
    """Prints what is wrong with the network; 1 when something is, 0 when only notes are left.

    Raises:
        DFNetError: an option is wrong, or the network cannot be loaded, fused or traced.
    """
    network = NetworkChoice(options.checkpoint, options.factory, options.weights)
    jobs = _selection(options).jobs()
    captures = require_split(open_captures(options.calibration), Split.CALIBRATION)
    require_calibration_captures(captures)
    log = options.output / options.platform / LOG_NAME
    log.parent.mkdir(parents=True, exist_ok=True)
    with Progress() as progress:
        report = _read(network, jobs, captures, log, progress)
    _print(report, as_json=options.as_json)
    return EXIT_MISSED_BAR if report.problems else EXIT_OK


def _selection(options: Options) -> Selection:
    return Selection(
        platform=cast(Platform, options.platform),  # Selection checks it
        # Any: operators run where they run at every size.
        resolutions=(RESOLUTIONS["preview"],),
        runtimes=options.runtimes,
        recipes=options.recipes,
    )


def _read(
    choice: NetworkChoice,
    jobs: Sequence[Job],
    captures: CaptureSet,
    log: Path,
    progress: Progress,
) -> Report:
    with progress.step("Read the network"), sdk_log(log):
        # Importing the quantizer makes torchao print warnings.
        from export.lint.matching import find
        from export.lint.rules import FileKind
        from quantize.fuse import fuse

        first = captures.load(captures.ids[0])
        network = fuse(choice.load().network, [first.feed(first.targets[0])])
        findings = find(
            network, {FileKind(j.runtime, j.variant.backend, j.variant.recipe) for j in jobs}
        )
    in_float16 = any(_computes_in_float16(job) for job in jobs)
    magnitudes = _magnitudes(network, captures, progress) if in_float16 else None
    return Report(len(jobs), findings, magnitudes)


def _magnitudes(
    network: nn.Module, captures: CaptureSet, progress: Progress
) -> tuple[Magnitude, ...]:
    from export.lint.overflow import measure_magnitudes
    from quantize.calibrate import calibration_feeds

    feeds = (capture.feed(target) for capture, target in calibration_feeds(captures))
    with progress.step("Largest values on calibration captures"):
        return measure_magnitudes(
            network, feeds, progress=lambda done: progress.count(done, 3 * len(captures))
        )


def _computes_in_float16(job: Job) -> bool:
    """Core ML does in every recipe but fp32, outside int8 operators."""
    precision = find_recipe(job.variant.recipe).precision
    return job.variant.backend == "coreml" and precision is not Precision.FP32


def _print(report: Report, *, as_json: bool) -> None:
    console = results_console()
    if as_json:
        console.print_json(json.dumps(_to_json(report)))
        return
    if report.findings:
        console.print(_table(report.findings))
    for line in _sentences(report):
        console.print(line, markup=False)


def _to_json(report: Report) -> dict[str, object]:
    magnitudes = report.magnitudes
    return {
        "files": report.files,
        "problems": report.problems,
        "findings": [finding.to_json() for finding in report.findings],
        "float16": None if magnitudes is None else [m.to_json() for m in magnitudes],
    }


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(title="Operators", show_lines=True)
    for heading in ("", "operator", "where", "what happens", "rewrite"):
        table.add_column(heading)
    for finding in findings:
        table.add_row(
            "problem" if finding.is_problem else "note",
            finding.rule.name,
            "\n".join(finding.places),
            "\n".join(dict.fromkeys(map(str, finding.effects))),
            finding.rule.rewrite,
        )
    return table


def _sentences(report: Report) -> Iterator[str]:
    from export.lint.overflow import HEADROOM

    for magnitude in report.overflows:
        yield (
            f"float16: {magnitude.tensor} in {magnitude.module or 'the network'} reaches "
            f"{magnitude.largest:.4g} on calibration captures, which leaves "
            f"{magnitude.headroom:.1f}x of 65504, needed {HEADROOM:.0f}x. Scale the weights before "
            "it down and those after it up, or export fp32."
        )
    if report.magnitudes is not None and not report.overflows:
        largest = ", ".join(f"{m.tensor} {m.largest:.3g}" for m in report.magnitudes[:_LARGEST])
        yield (
            f"float16 holds every value; largest on calibration captures: {largest} "
            f"(65504 is the limit, {HEADROOM:.0f}x is kept free)."
        )
    notes = sum(not finding.is_problem for finding in report.findings)
    problems = _count(report.problems, "problem")
    yield f"{problems}, {_count(notes, 'note')} for {_count(report.files, 'file')}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
