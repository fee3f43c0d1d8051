"""What ``python -m benchmarks`` does: check every argument, run, print rows, give the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.checks import Checked, check_all
from benchmarks.groups import Timed, TimingRequest, time_all
from benchmarks.hostload import default_threads
from benchmarks.junit import write_junit
from benchmarks.latency import PROTOCOLS
from benchmarks.mosaic import fill_frame
from benchmarks.publishing import point_to, publish
from benchmarks.regression import Regression
from benchmarks.request import Request
from benchmarks.row import Row
from benchmarks.selection import Choice, choose, read_artifacts
from benchmarks.verdict import Outcome, Verdict
from dfnet.artifact import Artifact
from dfnet.capture import Split
from dfnet.captureset import CaptureSet, open_captures, require_split
from dfnet.console import (
    EXIT_MISSED_BAR,
    EXIT_OK,
    Progress,
    progress_console,
)
from dfnet.devices import find_device
from dfnet.errors import CaptureError, MissingDependencyError, UnsupportedError
from dfnet.logs import log_records_to, show_log_records
from dfnet.network import NetworkChoice
from dfnet.profiles import Resolution, parse_resolution
from dfnet.signature import Feed
from export import load_runtime
from export.sdk_log import sdk_log

LOG_NAME = "benchmarks.log"


@dataclass(frozen=True)
class Options:
    """The command line as given; see ``python -m benchmarks verify --help``."""

    platform: str | None
    runtimes: tuple[str, ...]
    recipes: tuple[str, ...]
    resolutions: tuple[str, ...]
    device: str | None
    output: Path
    threads: int | None
    as_json: bool
    verbose: bool
    captures: Path
    checkpoint: Path | None = None
    factory: str | None = None
    weights: Path | None = None
    calibration: Path = Path("data/captures/calibration")

    @property
    def log(self) -> Path:
        return self.output / LOG_NAME

    @property
    def thread_count(self) -> int:
        return self.threads or default_threads()


def verify(options: Options) -> int:
    """Checks and times a platform's artifacts; 1 when a bar is missed, see ``parity``."""
    chosen = prepare(options)
    with log_records_to(options.log), Progress() as progress:
        checked = check_all(chosen, _request(options), progress)
        runnable = [
            one.artifact
            for one in checked
            if one.checks.ran_on_host and one.artifact.manifest.entry is None
        ]
        timed = time_all(runnable, _timing(options, "quick", reuse=True), progress)
        _say_reused(checked, timed, progress)
    rows, pages = publish(chosen, options.output, as_json=options.as_json)
    unverified = sum(row.verdict == Outcome.NOT_RUN for row in _judged(rows))
    if unverified:
        progress_console().print(f"BUILT, NOT VERIFIED: {unverified} cells", style="yellow")
    point_to(pages, as_json=options.as_json)
    return EXIT_MISSED_BAR if any(row.verdict == Outcome.FAILED for row in rows) else EXIT_OK


def parity(options: Options, junit: Path | None = None) -> int:
    """Checks artifacts; 0 only when each one ran and cleared its bars.

    ``junit`` is a file for the same verdicts; a check that was not run is an error there.

    Raises:
        ArtifactError: there are no artifacts of the choice, or they do not fit the checkpoint.
        CaptureError: captures that must not judge, or cannot.
    """
    chosen = prepare(options)
    with log_records_to(options.log), Progress() as progress:
        checked = check_all(chosen, _request(options), progress)
        _say_reused(checked, (), progress)
    rows, pages = publish(chosen, options.output, as_json=options.as_json)
    if junit is not None:
        write_junit(
            junit, [_judged_file(row) for row in _judged(rows)], title="parity", required=True
        )
    point_to(pages, as_json=options.as_json)
    passed = all(row.verdict == Outcome.PASSED for row in _judged(rows))
    return EXIT_OK if passed else EXIT_MISSED_BAR


def latency(options: Options, protocol: str) -> int:
    """Times artifacts anew; 0 whatever the milliseconds, since a host has no budget.

    Raises:
        UnsupportedError: none of the chosen artifacts can run here.
    """
    chosen = prepare(options)
    with log_records_to(options.log), Progress() as progress:
        runnable = [artifact for artifact in chosen if _runs_here(artifact, options.log, progress)]
        if not runnable:
            raise UnsupportedError(
                f"Latency: got {len(chosen)} artifacts, none of which runs on this machine. "
                "Choose another --platform."
            )
        time_all(runnable, _timing(options, protocol, reuse=False), progress)
    _, pages = publish(chosen, options.output, as_json=options.as_json)
    point_to(pages, as_json=options.as_json)
    return EXIT_OK


def _judged_file(row: Row) -> Regression:
    checks = {name: Verdict.from_json(verdict) for name, verdict in row.checks.items()}
    name = f"{row.platform} {row.runtime} {row.backend} {row.recipe} {row.resolution}"
    return Regression(name, checks, None, ())


def report(
    platform: str | None, output: Path, *, as_json: bool, resolutions: Sequence[str] = ()
) -> int:
    """Prints every artifact's row from results on disk, and writes the pages anew."""
    sizes = tuple(map(parse_resolution, resolutions))
    choice = Choice(platform, resolutions=sizes)
    chosen = choose(read_artifacts(output), choice, output=output)
    _, pages = publish(chosen, output, as_json=as_json)
    point_to(pages, as_json=as_json)
    return EXIT_OK


def prepare(options: Options) -> tuple[Artifact, ...]:
    """Sets up logs and threads as asked; the chosen artifacts.

    Raises:
        ArtifactError: there are none of the choice, or a file was altered.
    """
    if options.verbose:
        show_log_records()
    torch.set_num_threads(options.thread_count)
    choice = Choice(options.platform, options.runtimes, options.recipes, _resolutions(options))
    return choose(read_artifacts(options.output), choice, output=options.output)


def _resolutions(options: Options) -> tuple[Resolution, ...]:
    if options.device is None:
        return tuple(map(parse_resolution, options.resolutions))
    if options.resolutions:
        raise UnsupportedError(
            f"Resolutions: got --device {options.device!r} and --resolution "
            f"{' '.join(options.resolutions)}, needed one of the two. Drop one."
        )
    return find_device(options.device).resolutions


def _request(options: Options) -> Request:
    network = NetworkChoice(options.checkpoint, options.factory, options.weights)
    return Request(
        folder=options.output,
        log=options.log,
        captures=_judging_captures(options.captures),
        checkpoint=network.load,
        calibration=partial(_calibration, options.calibration),
        threads=options.thread_count,
    )


def _judging_captures(root: Path) -> CaptureSet:
    captures = open_captures(root)
    if captures.split in (Split.CALIBRATION, Split.TRAINING):
        raise CaptureError(
            f"Capture set {root}: got the split {captures.split}, needed {Split.HELD_OUT} or "
            f"{Split.VALIDATION}: a network looks too good on captures it was made with. Give "
            "other captures."
        )
    return captures


def _calibration(root: Path) -> CaptureSet:
    return require_split(open_captures(root), Split.CALIBRATION)


def _timing(options: Options, protocol: str, *, reuse: bool) -> TimingRequest:
    captures = open_captures(options.captures)

    def feed(resolution: Resolution) -> Feed:
        return fill_frame(tuple(captures), resolution)[0].feed

    return TimingRequest(
        folder=options.output / "results",
        feed=feed,
        protocol=PROTOCOLS[protocol],
        threads=options.thread_count,
        reuse=reuse,
        log=options.log,
    )


def _runs_here(artifact: Artifact, log: Path, progress: Progress) -> bool:
    if artifact.manifest.entry is not None:
        progress.say(f"{artifact.id}: not run (bundles are not timed)")
        return False
    try:
        with sdk_log(log):
            reason = load_runtime(artifact.manifest.runtime).cannot_run(artifact)
    except MissingDependencyError as error:
        reason = str(error)
    if reason:
        progress.say(f"{artifact.id}: not run ({reason})")
    return reason is None


def _say_reused(checked: Sequence[Checked], timed: Sequence[Timed], progress: Progress) -> None:
    for kind, found in (("checks", checked), ("latency comparisons", timed)):
        reused = sum(one.reused for one in found)
        if reused:
            progress.say(f"Reused {reused} of {len(found)} {kind}: nothing they depend on changed.")


def _judged(rows: Sequence[Row]) -> list[Row]:
    """Rows of this machine: latencies imported from devices are neither verified nor missing."""
    return [row for row in rows if row.runner is None]
