"""From a checkpoint to checked-in files: load -> fuse -> quantize -> lower -> manifest."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from dfnet.artifact import (
    Artifact,
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
from dfnet.manifest import Manifest
from dfnet.reach import FACT
from export.build_report import BuildReport, BuildRow, Status
from export.plan import Job, Selection
from export.reuse import Ingredients, artifact_id, find_built, remove_others, tool_versions
from export.sdk_log import sdk_log
from export.workplace import LOG_NAME, workplace
from quantize.captures import require_calibration_captures
from quantize.recipe import find_recipe

if TYPE_CHECKING:
    from export.runtime import Lowered
    from export.workshop import Workshop
    from quantize.program import Program

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
            ingredients = Ingredients(request.checkpoint.sha256, request.calibration.sha256)
            # All keys first: they hash our sources, which should be those that run now.
            keys = [_key_of(job, ingredients) for job in jobs]
            # Importing the quantizer already makes torchao print warnings.
            with sdk_log(log):
                from export.workshop import Workshop
                from quantize.store import PROGRAMS
            workshop = Workshop(
                request.checkpoint.network,
                request.calibration,
                ingredients,
                log,
                progress,
                request.output / PROGRAMS,
            )
            pairs = zip(jobs, keys, strict=True)
            return BuildReport(tuple(_row(job, key, folder, workshop) for job, key in pairs))


def _key_of(job: Job, ingredients: Ingredients) -> str | MissingDependencyError:
    try:
        return ingredients.key(job)
    except MissingDependencyError as error:
        return error


def _row(job: Job, key: str | MissingDependencyError, folder: Path, workshop: Workshop) -> BuildRow:
    start = time.perf_counter()
    with workshop.progress.step(str(job)) as step:
        status, artifact, reason = _outcome(job, key, folder, workshop)
        step.outcome = status
    if artifact:
        remove_others(artifact.folder, job)
    if reason:
        _log.info("%s: %s. %s", job, status, reason)
    return BuildRow(job, status, time.perf_counter() - start, artifact, reason)


def _outcome(
    job: Job, key: str | MissingDependencyError, folder: Path, workshop: Workshop
) -> tuple[Status, Artifact | None, str]:
    if isinstance(key, MissingDependencyError):
        return "not available here", None, str(key)
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


def _build(job: Job, key: str, target: Path, workshop: Workshop, fused: nn.Module) -> Artifact:
    program = workshop.program(job, fused)
    with staged_folder(target) as folder:
        lowered = workshop.lower(job, program, folder)
        manifest = _manifest(job, key, workshop, lowered, program, folder)
        write_manifest(folder, manifest)
    return read_artifact(target)  # what a later run will find, its hash checked once


def _manifest(
    job: Job,
    key: str,
    workshop: Workshop,
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
        "program_sha256": getattr(program, "sha256", None),
        FACT: workshop.receptive_field,
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
        entry=lowered.entry_points[0].name if lowered.entry_points else None,
        entry_points=lowered.entry_points,
    )
