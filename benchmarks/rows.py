"""The summary: one row per artifact and device, joined from manifests and results by sha256."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.device_parity import DeviceParity
from benchmarks.device_results import DeviceLatency
from benchmarks.device_rows import device_rows
from benchmarks.hostload import processor
from benchmarks.results import Checks, Comparison
from benchmarks.row import Row
from benchmarks.timing import LatencyResult
from benchmarks.verdict import Bar, Verdict, combine, judge, not_run
from dfnet.artifact import Artifact
from dfnet.manifest import Manifest
from dfnet.profiles import Precision
from export.variants import RUNTIMES, SYSTEMS

SIZE_BAR = Bar("size_ratio", "at most", 0.35)
"""An int8 file over the fp32 file of the same runtime, backend and resolution: a quarter for the
weights, the rest for what surrounds them."""

DELEGATION_BAR = Bar("undelegated_convolutions", "at most", 0)

_THIS_SYSTEM = {"Darwin": "macOS"}.get(platform.system())

_MAY_STAY_UNDELEGATED = (Precision.W8A16,)
"""No CPU delegate of a host takes int16 activations; such files are for reference."""


def build_rows(
    artifacts: Sequence[Artifact],
    checks: Iterable[Checks],
    comparisons: Iterable[Comparison],
    device_latencies: Iterable[DeviceLatency] = (),
    device_parities: Iterable[DeviceParity] = (),
) -> list[Row]:
    """A row per artifact for this machine, each followed by one per device and setting.

    Results of files that are not among ``artifacts`` are left out.
    """
    checked = {(one.artifact_sha256, one.entry): one for one in checks}
    timed, on_devices = _latencies(comparisons), tuple(device_latencies)
    compared = tuple(device_parities)
    rows = []
    for artifact in artifacts:
        sibling, sha256 = float_sibling(artifact, artifacts), artifact.manifest.artifact_sha256
        mine = checked.get((sha256, artifact.manifest.entry))
        row = _row(artifact, sibling, mine, timed.get(sha256))
        rows += [row, *device_rows(row, artifact, sibling, on_devices, compared)]
    return rows


def _latencies(comparisons: Iterable[Comparison]) -> dict[str, LatencyResult]:
    """By sha256; the full protocol outranks the quick one."""
    found: dict[str, LatencyResult] = {}
    for comparison in comparisons:
        for sha256, result in comparison.results.items():
            if sha256 not in found or result.protocol == "full":
                found[sha256] = result
    return found


def float_sibling(artifact: Artifact, artifacts: Sequence[Artifact]) -> Artifact | None:
    """The fp32 file of the same network, platform, runtime, backend and resolution;
    a bundle's is a bundle of the same resolutions."""

    def kind(one: Artifact) -> tuple[object, ...]:
        m = one.manifest
        return m.checkpoint_sha256, m.platform, m.runtime, m.backend, m.resolution, m.resolutions

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
        graph_gap_db=figures.get("graph_gap_db"),
        worst_tile_db=figures.get("worst_tile_db"),
        splits=checks.splits if checks else {},
        hops=_hops(checks),
        executions=[execution.to_json() for execution in checks.executions] if checks else [],
        delegate_calls=delegation.delegate_calls if delegation else None,
        undelegated_convolutions=delegation.undelegated_convolutions if delegation else None,
        median_ms=latency.median_ms if latency else None,
        latency_protocol=latency.protocol if latency else None,
        latency_validity=latency.validity if latency else None,
        threads=latency.threads if latency else None,
        latency_reason=_latency_reason(manifest, checks, latency),
        device_kind=checks.device.kind if checks and checks.device else None,
        accelerator=None,
        runner=None,
        captures_sha256=checks.details.get("captures", {}).get("sha256") if checks else None,
        machine=processor() if latency else None,
    )


def _latency_reason(
    manifest: Manifest, checks: Checks | None, latency: LatencyResult | None
) -> str | None:
    """Why a row of this machine has no time or no ratio; None when it has both."""
    if latency is not None and latency.median_ms is None:
        return f"not run ({'; '.join(latency.invalid_reasons())})"
    if latency is not None:
        alone = f"no ratio (no fp32 file of {manifest.runtime} {manifest.backend} timed with it)"
        return alone if latency.latency_ratio is None else None
    if checks is not None and not checks.executions:
        return f"not run ({combine(checks.verdicts).reason or 'nothing ran'})"
    if manifest.entry is not None:
        return "not run (bundles are not timed; their single files compute the same graphs)"
    needed = SYSTEMS.get(manifest.backend)
    runs_here = needed in (None, _THIS_SYSTEM) if checks is None else checks.ran_on_host
    if runs_here:
        return f"not run (not timed yet: python -m benchmarks latency --runtime {manifest.runtime})"
    return f"not run ({f'needs {needed}' if needed else 'only the reference evaluator runs it'})"


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
