"""Parity and quality of artifacts on this machine, reusing what was found before.

A candidate runs first and is judged later: mosaics through the runtime, in every way this machine
can execute the file, then the same mosaics through the references, then every hop and the quality
against their bars. Of several executions the worst one counts.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from benchmarks.candidate import Outputs, run
from benchmarks.exhibits import are_whole, exhibits_of, keep_exhibits, pictures_folder
from benchmarks.identity import key_of, source_sha256
from benchmarks.references import SOURCES
from benchmarks.request import Request
from benchmarks.results import Checks, Execution, checks_path, read_checks, write_result
from benchmarks.verdict import Verdict, combine
from dfnet.artifact import Artifact
from dfnet.console import Progress
from dfnet.errors import MetricError
from export.sdk_log import sdk_log

if TYPE_CHECKING:
    from benchmarks.judging import Judge, Ruling

_SOURCES = (
    *SOURCES,
    "benchmarks/candidate.py",
    "benchmarks/exhibits.py",
    "benchmarks/graphs.py",
    "benchmarks/judging.py",
    "benchmarks/parity.py",
    "benchmarks/quality.py",
    "benchmarks/verdict.py",
    "dfnet/metrics.py",
    "dfnet/blend.py",
    "export/coreml_runner.py",
    "export/executorch_embedded.py",
    "export/executorch_runner.py",
    "export/litert_runner.py",
    "export/mil",
    "export/mil_runner.py",
    "export/onnx_runner.py",
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
    pictures = pictures_folder(request.results, artifact.manifest)
    if kept and kept.key == key and are_whole(pictures, exhibits_of(kept.details)):
        return Checked(artifact, kept, reused=True)
    with progress.step(f"Check {artifact.id}"), sdk_log(request.log):
        mosaics = workshop.judge.mosaics(artifact.manifest.resolution)
        outcome = run(artifact, mosaics, threads=request.threads)
        checks = _checks(artifact, key, outcome, workshop)
    write_result(path, checks)
    return Checked(artifact, checks, reused=False)


def _checks(
    artifact: Artifact, key: str, outcome: tuple[Outputs, ...] | Verdict, workshop: _Workshop
) -> Checks:
    sha256, entry = artifact.manifest.artifact_sha256, artifact.manifest.entry
    if isinstance(outcome, Verdict):
        verdicts = {"parity": outcome, "quality": outcome}
        return Checks(
            key, sha256, None, (), verdicts, figures={}, splits={}, details={}, entry=entry
        )
    rulings = [workshop.judge.rule(artifact, outputs) for outputs in outcome]
    worst, outputs = min(zip(rulings, outcome, strict=True), key=lambda pair: _severity(pair[0]))
    return Checks(
        key=key,
        artifact_sha256=sha256,
        device=worst.device,
        executions=tuple(_execution(ruling) for ruling in rulings),
        verdicts={
            "parity": combine({ruling.device.name: ruling.parity for ruling in rulings}),
            "quality": combine({ruling.device.name: ruling.quality.verdict for ruling in rulings}),
        },
        figures=worst.figures,
        splits=worst.quality.splits,
        details={
            "hops": [hop.to_json() for hop in (*worst.hops, worst.total)],
            "quality": worst.quality.to_json(),
            "captures": _captures(workshop.request),
            "exhibits": _exhibits(artifact, outputs, worst, workshop),
        },
        entry=entry,
    )


def _captures(request: Request) -> dict[str, Any]:
    """Which captures judged."""
    captures = request.captures
    return {
        "sha256": captures.sha256,
        "split": str(captures.split),
        "ids": list(captures.ids),
    }


def _exhibits(
    artifact: Artifact, outputs: Outputs, ruling: Ruling, workshop: _Workshop
) -> list[dict[str, Any]]:
    """Keeps the most telling pictures of a ruling; see ``benchmarks.exhibits``."""
    exhibits = keep_exhibits(
        pictures_folder(workshop.request.results, artifact.manifest),
        workshop.judge.mosaics(artifact.manifest.resolution),
        workshop.judge.trained(artifact),
        outputs.images,
        ruling.quality.tiles,
    )
    return [exhibit.to_json() for exhibit in exhibits]


def _severity(ruling: Ruling) -> tuple[bool, float]:
    """Orders executions, worst first: those that miss a bar, then by distance from the network."""
    passed = ruling.parity.is_passed and ruling.quality.verdict.is_passed
    return passed, ruling.figures["psnr_db"] or 0.0


def _execution(ruling: Ruling) -> Execution:
    verdict = combine({"parity": ruling.parity, "quality": ruling.quality.verdict})
    names = ("psnr_db", "worst_psnr_db", "graph_psnr_db", "drop_db", "gain_kept")
    return Execution(ruling.device, verdict, {name: ruling.figures[name] for name in names})


def _key(artifact: Artifact, request: Request) -> str:
    manifest = artifact.manifest
    return key_of(
        manifest.artifact_sha256,
        manifest.build_key,
        manifest.entry,
        manifest.recipe,
        manifest.checkpoint_sha256,
        manifest.calibration_sha256,
        request.captures.sha256,
        request.captures.ids,
        source_sha256(_SOURCES),
        sys.platform,
    )
