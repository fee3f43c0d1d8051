"""Parity and quality of artifacts on this machine, reusing what was found before.

A candidate runs first and is judged later: mosaics through the runtime, then the same mosaics
through the references, then every hop and the quality against their bars.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from benchmarks.candidate import Outputs, run
from benchmarks.identity import key_of, source_sha256
from benchmarks.references import SOURCES
from benchmarks.request import Request
from benchmarks.results import Checks, checks_path, read_checks, write_result
from benchmarks.verdict import Verdict
from dfnet.artifact import Artifact
from dfnet.console import Progress
from dfnet.errors import MetricError
from export.sdk_log import sdk_log

if TYPE_CHECKING:
    from benchmarks.judging import Judge

_SOURCES = (
    *SOURCES,
    "benchmarks/candidate.py",
    "benchmarks/graphs.py",
    "benchmarks/judging.py",
    "benchmarks/parity.py",
    "benchmarks/quality.py",
    "benchmarks/verdict.py",
    "dfnet/metrics.py",
    "dfnet/blend.py",
)
"""Files whose change, bars included, makes kept checks stale."""


@dataclass(frozen=True)
class Checked:
    """The checks of one artifact, and whether they were found on disk."""

    artifact: Artifact
    checks: Checks
    reused: bool


def check_all(
    artifacts: Sequence[Artifact], request: Request, progress: Progress
) -> tuple[Checked, ...]:
    """Parity and quality of every artifact; only new or changed ones are run.

    Raises:
        MetricError: there are no artifacts.
        DFNetError: captures, checkpoint or calibration set do not fit the artifacts.
    """
    if not artifacts:
        raise MetricError("Checks: got no artifacts, needed at least one. Export first.")
    workshop = _Workshop(request)
    # One resolution after the other, so that its mosaics and references are made once.
    ordered = sorted(artifacts, key=lambda a: (a.manifest.resolution, a.id))
    return tuple(_check(artifact, workshop, progress) for artifact in ordered)


class _Workshop:
    """What the checks of one command share."""

    def __init__(self, request: Request) -> None:
        self.request = request

    @cached_property
    def judge(self) -> Judge:
        # Imported here because it brings in the quantizer: seconds that a rerun does not need.
        from benchmarks.judging import Judge

        return Judge(self.request)


def _check(artifact: Artifact, workshop: _Workshop, progress: Progress) -> Checked:
    request = workshop.request
    path, key = checks_path(request.results, artifact), _key(artifact, request)
    kept = read_checks(path)
    if kept is not None and kept.key == key:
        return Checked(artifact, kept, reused=True)
    with progress.step(f"Check {artifact.id}"), sdk_log(request.log):
        mosaics = workshop.judge.mosaics(artifact.manifest.resolution)
        outcome = run(artifact, mosaics, threads=request.threads)
        checks = _checks(artifact, key, outcome, workshop.judge)
    write_result(path, checks)
    return Checked(artifact, checks, reused=False)


def _checks(artifact: Artifact, key: str, outcome: Outputs | Verdict, judge: Judge) -> Checks:
    sha256 = artifact.manifest.artifact_sha256
    if isinstance(outcome, Verdict):
        verdicts = {"parity": outcome, "quality": outcome}
        return Checks(key, sha256, None, verdicts, figures={}, splits={}, details={})
    ruling = judge.rule(artifact, outcome)
    return Checks(
        key=key,
        artifact_sha256=sha256,
        device=outcome.device,
        verdicts={"parity": ruling.parity, "quality": ruling.quality.verdict},
        figures=ruling.figures,
        splits=ruling.quality.splits,
        details={
            "hops": [hop.to_json() for hop in (*ruling.hops, ruling.total)],
            "quality": ruling.quality.to_json(),
        },
    )


def _key(artifact: Artifact, request: Request) -> str:
    manifest = artifact.manifest
    return key_of(
        manifest.artifact_sha256,
        manifest.build_key,
        manifest.recipe,
        manifest.checkpoint_sha256,
        manifest.calibration_sha256,
        request.captures.sha256,
        request.captures.ids,
        source_sha256(_SOURCES),
        sys.platform,
    )
