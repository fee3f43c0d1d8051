"""The summary: one row per artifact and device, joined from manifests and results by sha256."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.results import Checks, Comparison
from benchmarks.timing import LatencyResult
from benchmarks.verdict import Bar, Verdict, combine, judge, not_run
from dfnet.artifact import Artifact, Manifest
from dfnet.profiles import Precision
from export.variants import RUNTIMES

SIZE_BAR = Bar("size_ratio", "at most", 0.35)
"""An int8 file over the fp32 file of the same runtime, backend and resolution: a quarter for the
weights, the rest for what surrounds them."""

DELEGATION_BAR = Bar("undelegated_convolutions", "at most", 0)

_MAY_STAY_UNDELEGATED = (Precision.W8A16,)
"""No CPU delegate of a host takes int16 activations; such files are for reference."""


@dataclass(frozen=True)
class Row:
    """One artifact on one device. The fields down to ``size_ratio`` are a stable interface.

    ``psnr_db`` and ``residual_psnr_db`` are against the trained float network, ``graph_psnr_db``
    against the graph that was lowered. ``latency_ratio`` is over the fp32 file of the same runtime
    and backend, in the same run on the same device; on a host it says nothing about a phone. What
    was not measured is None.
    """

    runtime: str
    backend: str
    precision: str
    recipe: str
    resolution: str
    device: str | None
    verdict: str
    reason: str | None
    psnr_db: float | None
    worst_psnr_db: float | None
    residual_psnr_db: float | None
    drop_db: float | None
    worst_drop_db: float | None
    gain_kept: float | None
    ssim: float | None
    latency_ratio: float | None
    artifact_bytes: int
    size_ratio: float | None

    platform: str
    artifact: str
    artifact_sha256: str
    checks: dict[str, dict[str, Any]]
    residual_snr_db: float | None
    graph_psnr_db: float | None
    graph_worst_psnr_db: float | None
    worst_tile_db: float | None
    splits: dict[str, dict[str, float | None]]
    hops: list[dict[str, Any]]
    delegate_calls: int | None
    undelegated_convolutions: int | None
    median_ms: float | None
    latency_protocol: str | None
    latency_validity: str | None
    threads: int | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def build_rows(
    artifacts: Sequence[Artifact], checks: Iterable[Checks], comparisons: Iterable[Comparison]
) -> list[Row]:
    """A row per artifact; results of files that are not among them are left out."""
    checked = {one.artifact_sha256: one for one in checks}
    timed = _latencies(comparisons)
    return [
        _row(
            artifact,
            _float_sibling(artifact, artifacts),
            checked.get(artifact.manifest.artifact_sha256),
            timed.get(artifact.manifest.artifact_sha256),
        )
        for artifact in artifacts
    ]


def _latencies(comparisons: Iterable[Comparison]) -> dict[str, LatencyResult]:
    """By sha256; the full protocol outranks the quick one."""
    found: dict[str, LatencyResult] = {}
    for comparison in comparisons:
        for sha256, result in comparison.results.items():
            if sha256 not in found or result.protocol == "full":
                found[sha256] = result
    return found


def _float_sibling(artifact: Artifact, artifacts: Sequence[Artifact]) -> Artifact | None:
    """The fp32 file of the same network, platform, runtime, backend and resolution."""

    def kind(one: Artifact) -> tuple[object, ...]:
        m = one.manifest
        return m.checkpoint_sha256, m.platform, m.runtime, m.backend, m.resolution

    for other in artifacts:
        if other.manifest.precision is Precision.FP32 and kind(other) == kind(artifact):
            return other
    return None


def _row(
    artifact: Artifact,
    sibling: Artifact | None,
    checks: Checks | None,
    latency: LatencyResult | None,
) -> Row:
    manifest, delegation = artifact.manifest, artifact.manifest.delegation
    size_ratio = (
        manifest.artifact_bytes / sibling.manifest.artifact_bytes if sibling is not None else None
    )
    verdicts = _verdicts(artifact, size_ratio, checks)
    verdict = combine(verdicts)
    figures = checks.figures if checks else {}
    return Row(
        runtime=manifest.runtime,
        backend=manifest.backend,
        precision=str(manifest.precision),
        recipe=str(manifest.recipe["name"]),
        resolution=str(manifest.resolution),
        device=checks.device.name if checks and checks.device else None,
        verdict=str(verdict.outcome),
        reason=verdict.reason,
        psnr_db=figures.get("psnr_db"),
        worst_psnr_db=figures.get("worst_psnr_db"),
        residual_psnr_db=figures.get("residual_psnr_db"),
        drop_db=figures.get("drop_db"),
        worst_drop_db=figures.get("worst_drop_db"),
        gain_kept=figures.get("gain_kept"),
        ssim=figures.get("ssim"),
        latency_ratio=latency.latency_ratio if latency else None,
        artifact_bytes=manifest.artifact_bytes,
        size_ratio=size_ratio,
        platform=manifest.platform,
        artifact=artifact.id,
        artifact_sha256=manifest.artifact_sha256,
        checks={name: one.to_json() for name, one in verdicts.items()},
        residual_snr_db=figures.get("residual_snr_db"),
        graph_psnr_db=figures.get("graph_psnr_db"),
        graph_worst_psnr_db=figures.get("graph_worst_psnr_db"),
        worst_tile_db=figures.get("worst_tile_db"),
        splits=checks.splits if checks else {},
        hops=_hops(checks),
        delegate_calls=delegation.delegate_calls if delegation else None,
        undelegated_convolutions=delegation.undelegated_convolutions if delegation else None,
        median_ms=latency.median_ms if latency else None,
        latency_protocol=latency.protocol if latency else None,
        latency_validity=latency.validity if latency else None,
        threads=latency.threads if latency else None,
    )


def _hops(checks: Checks | None) -> list[dict[str, Any]]:
    """The chain without the scores of single captures; see ``benchmarks.parity``."""
    return [
        {
            "reference": hop["reference"],
            "candidate": hop["candidate"],
            **hop["figures"],
            "verdict": str(Verdict.from_json(hop["verdict"])),
        }
        for hop in (checks.details.get("hops", []) if checks else [])
    ]


def _verdicts(
    artifact: Artifact, size_ratio: float | None, checks: Checks | None
) -> dict[str, Verdict]:
    """Parity and quality as measured, size and delegation as the manifests say."""
    manifest = artifact.manifest
    unmeasured = not_run(
        f"not verified yet: python -m benchmarks verify --platform {manifest.platform}"
    )
    verdicts = dict(checks.verdicts) if checks else {"parity": unmeasured, "quality": unmeasured}
    if size_ratio is not None and manifest.precision is Precision.W8A8:
        verdicts["size"] = judge({"size_ratio": size_ratio}, [SIZE_BAR])
    elif manifest.precision is Precision.W8A8 and _has_float_variant(manifest):
        reason = f"no fp32 file of {manifest.runtime} {manifest.backend} to compare the size with"
        verdicts["size"] = not_run(reason)
    if manifest.delegation and manifest.precision not in _MAY_STAY_UNDELEGATED:
        count = manifest.delegation.undelegated_convolutions
        verdicts["delegation"] = judge({"undelegated_convolutions": count}, [DELEGATION_BAR])
    return verdicts


def _has_float_variant(manifest: Manifest) -> bool:
    """Whether an fp32 file usually stands beside this one."""
    row = RUNTIMES.get(manifest.runtime)
    kind = (manifest.platform, manifest.backend, "fp32", False)
    return row is not None and any(
        (v.platform, v.backend, v.recipe, v.on_request) == kind for v in row.variants
    )
