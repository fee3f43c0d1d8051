"""From a checkpoint to checked-in files: load -> fuse -> quantize -> lower -> manifest."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import nn

from dfnet.artifact import (
    Artifact,
    Manifest,
    bytes_of,
    read_artifact,
    sha256_of,
    staged_folder,
    write_manifest,
)
from dfnet.captureset import CaptureSet
from dfnet.checkpoint import Checkpoint
from dfnet.console import Progress
from dfnet.errors import ArtifactError, MissingDependencyError, UnsupportedError
from dfnet.logs import log_records_to
from export import load_runtime
from export.build_report import BuildReport, BuildRow, Status
from export.plan import Job, Selection
from export.reuse import Ingredients, artifact_id, find_built, remove_others, tool_versions
from export.runtime import Lowered, Runtime
from export.sdk_log import sdk_log
from export.workplace import LOG_NAME, workplace
from quantize.calibrate import require_calibration_captures
from quantize.fuse import fuse
from quantize.program import Program
from quantize.recipe import find_recipe

PROOF_CAPTURES = 2
"""Captures on which fusing is proved equal; every target of each."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildRequest:
    """What to build, from what, and where: ``output``/<platform>/<id>/."""

    selection: Selection
    checkpoint: Checkpoint
    calibration: CaptureSet
    output: Path


def build(request: BuildRequest, progress: Progress) -> BuildReport:
    """Makes every file of the request, reusing those already built from the same ingredients.

    A runtime that is not installed gives a row, not an error; so does a recipe or network that a
    runtime cannot represent. An interrupted build leaves finished artifacts and nothing else.

    Raises:
        ArtifactError: the output cannot be written (the disk is full, another export runs).
        CalibrationError: the captures cannot calibrate; told before anything is built if it can be.
        UnsupportedError: the network cannot be fused.
    """
    jobs = request.selection.jobs()
    if any(find_recipe(job.variant.recipe).needs_calibration for job in jobs):
        require_calibration_captures(request.calibration)
    progress.expect(len(jobs))
    with workplace(request.output / request.selection.platform) as folder:
        log = folder / LOG_NAME
        with log_records_to(log):
            _log.info("%d files for %s", len(jobs), request.selection.platform)
            workshop = _Workshop(request, log, progress)
            return BuildReport(tuple(_row(job, folder, workshop) for job in jobs))


class _Workshop:
    """What the jobs share: each runtime loaded once, one fused network, one program per recipe.

    All of it is made when a job first needs it, so that a rerun with nothing to do loads no SDK.
    """

    def __init__(self, request: BuildRequest, log: Path, progress: Progress) -> None:
        self.log = log
        self.progress = progress
        self.ingredients = Ingredients(request.checkpoint.sha256, request.calibration.sha256)
        self._network = request.checkpoint.network
        self._calibration = request.calibration
        self._runtimes: dict[str, Runtime] = {}
        self._programs: dict[tuple[str, str], Program] = {}

    @cached_property
    def fused(self) -> nn.Module:
        """The network with its blocks folded, proved equal on real captures."""
        with self.progress.step("Fuse the network", counts=False), sdk_log(self.log):
            captures = map(self._calibration.load, self._calibration.ids[:PROOF_CAPTURES])
            feeds = [capture.feed(target) for capture in captures for target in capture.targets]
            return fuse(self._network, feeds)

    def program(self, job: Job, fused: nn.Module) -> Program:
        """The job's quantized graph: the shared one, unless its runtime makes its own."""
        runtime, recipe = self._runtime(job.runtime), find_recipe(job.variant.recipe)
        maker = self.maker(job)
        if (maker, recipe.name) not in self._programs:
            with self.progress.step(f"Quantize: {recipe.name}", counts=False), sdk_log(self.log):
                program = runtime.quantize(fused, recipe, self._calibration)
            self._programs[maker, recipe.name] = program
        return self._programs[maker, recipe.name]

    def maker(self, job: Job) -> str:
        """Who quantizes: ``shared``, or the runtime's key when it cannot take that graph."""
        overridden = type(self._runtime(job.runtime)).quantize is not Runtime.quantize
        return job.runtime if overridden else "shared"

    def lower(self, job: Job, program: Program, folder: Path) -> Lowered:
        """Writes the job's file into ``folder``."""
        with sdk_log(self.log):
            return self._runtime(job.runtime).lower(
                program, backend=job.variant.backend, resolution=job.resolution, folder=folder
            )

    def _runtime(self, key: str) -> Runtime:
        if key not in self._runtimes:
            with self.progress.step(f"Load {key}", counts=False), sdk_log(self.log):
                self._runtimes[key] = load_runtime(key)
        return self._runtimes[key]


def _row(job: Job, folder: Path, workshop: _Workshop) -> BuildRow:
    start = time.perf_counter()
    with workshop.progress.step(str(job)) as step:
        status, artifact, reason = _outcome(job, folder, workshop)
        step.outcome = status
    if artifact:
        remove_others(artifact.folder, job)
    if reason:
        _log.info("%s: %s. %s", job, status, reason)
    return BuildRow(job, status, time.perf_counter() - start, artifact, reason)


def _outcome(job: Job, folder: Path, workshop: _Workshop) -> tuple[Status, Artifact | None, str]:
    try:
        key = workshop.ingredients.key(job)
    except MissingDependencyError as error:
        return "not available here", None, str(error)
    target = folder / artifact_id(job, key)
    if artifact := _reusable(target, key, workshop.progress):
        return "reused", artifact, ""
    fused = workshop.fused  # outside the try: what is wrong here is wrong for every runtime
    try:
        return "built", _build(job, key, target, workshop, fused), ""
    except MissingDependencyError as error:
        return "not available here", None, str(error)
    except UnsupportedError as error:
        return "failed", None, str(error)


def _reusable(target: Path, key: str, progress: Progress) -> Artifact | None:
    try:
        return find_built(target, key)
    except ArtifactError as error:
        progress.say(f"{error} Building it again.")
        return None


def _build(job: Job, key: str, target: Path, workshop: _Workshop, fused: nn.Module) -> Artifact:
    program = workshop.program(job, fused)
    with staged_folder(target) as folder:
        lowered = workshop.lower(job, program, folder)
        manifest = _manifest(job, key, workshop, lowered, program, folder)
        write_manifest(folder, manifest)
    return read_artifact(target)  # what a later run will find, its hash checked once


def _manifest(
    job: Job,
    key: str,
    workshop: _Workshop,
    lowered: Lowered,
    program: Program,
    folder: Path,
) -> Manifest:
    file = folder / lowered.file
    if not file.exists() or not bytes_of(file):
        raise ArtifactError(
            f"Build of {job}: got no file or an empty one, needed {lowered.file}. See the log."
        )
    recipe = find_recipe(job.variant.recipe)
    calibration = program.calibration
    facts = {
        "quantized_by": workshop.maker(job),
        "calibration": calibration.to_json() if calibration else None,
        **lowered.facts,
    }
    return Manifest(
        runtime=job.runtime,
        backend=job.variant.backend,
        precision=recipe.precision,
        platform=job.variant.platform,
        resolution=job.resolution,
        inputs=lowered.inputs,
        outputs=lowered.outputs,
        checkpoint_sha256=workshop.ingredients.checkpoint_sha256,
        recipe=recipe.to_json(),
        calibration_sha256=calibration.sha256 if calibration else None,
        build_key=key,
        artifact_file=lowered.file,
        artifact_sha256=sha256_of(file),
        artifact_bytes=bytes_of(file),
        tool_versions=tool_versions(job.runtime),
        delegation=lowered.delegation,
        notes=lowered.notes,
        facts=facts,
    )
