"""Rows of devices: outputs compared with this machine's, times, or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.device_parity import DeviceParity, proxy_ratio
from benchmarks.device_results import DeviceLatency
from benchmarks.row import Row
from benchmarks.verdict import not_run
from dfnet.artifact import Artifact

_NOT_COMPARED = "outputs were not compared on this device"


def device_rows(
    row: Row,
    artifact: Artifact,
    sibling: Artifact | None,
    latencies: Sequence[DeviceLatency],
    parities: Sequence[DeviceParity],
) -> Iterator[Row]:
    """A row per result of the file of ``row`` on a device; one where outputs were compared and
    timed on the same device.

    ``sibling`` is the fp32 file of the same runtime, backend and resolution; a ratio is over its
    result on the same device, by the same runner, on the same accelerator units.
    """
    mine = [one for one in parities if one.artifact_sha256 == row.artifact_sha256]
    shown = set()
    for latency in latencies:
        if latency.artifact_sha256 == row.artifact_sha256:
            timed = _timed_row(row, latency, *_ratio(latency, sibling, latencies))
            compared = next((one for one in mine if _same_place(one, latency)), None)
            shown.add(compared)
            yield timed if compared is None else _judged(timed, compared, artifact)
    for one in mine:
        if one not in shown:
            yield _with_proxy(
                _judged(_compared_row(row, one), one, artifact), one, sibling, parities
            )


def _same_place(compared: DeviceParity, latency: DeviceLatency) -> bool:
    facts = latency.facts
    return compared.device == facts.device and compared.threads == facts.threads


def _judged(row: Row, one: DeviceParity, artifact: Artifact) -> Row:
    """``row`` with what became of the comparison of outputs."""
    verdict, figures = one.verdict(artifact.manifest), one.figures
    hop = {
        "reference": "this machine",
        "candidate": one.device.name,
        "psnr_db": figures.psnr_db if figures else None,
        "worst_psnr_db": figures.psnr_db if figures else None,
        "residual_snr_db": None,
        "max_abs": figures.max_abs if figures else None,
        "changed_share": figures.changed_share if figures else None,
        "verdict": str(verdict),
    }
    return replace(
        row,
        verdict=str(verdict.outcome),
        reason=verdict.reason,
        checks={"parity": verdict.to_json()},
        hops=[hop],
    )


def _compared_row(row: Row, one: DeviceParity) -> Row:
    emulated = one.device.kind == "emulator"
    return replace(
        _unjudged(row),
        device=one.device.name,
        device_kind=one.device.kind,
        accelerator=one.accelerator,
        runner=f"{one.runner.name} {one.runner.version}" if one.runner else "none answered",
        latency_ratio=None,
        median_ms=None,
        latency_protocol=None,
        latency_validity=None,
        threads=one.threads,
        latency_reason="not run (an emulator has none)" if emulated else "not run (not timed)",
    )


def _with_proxy(
    row: Row, one: DeviceParity, sibling: Artifact | None, parities: Sequence[DeviceParity]
) -> Row:
    sha256 = sibling.manifest.artifact_sha256 if sibling else None
    base = next(
        (o for o in parities if o.artifact_sha256 == sha256 and o.device == one.device), None
    )
    return replace(
        row,
        insn_proxy_ms=one.insn_proxy.headline_ms if one.insn_proxy else None,
        insn_proxy_ratio=proxy_ratio(one.insn_proxy, base.insn_proxy if base else None),
    )


def _ratio(
    one: DeviceLatency, sibling: Artifact | None, found: Sequence[DeviceLatency]
) -> tuple[float | None, str | None]:
    """The latency ratio, or why there is none."""
    if sibling is None:
        return None, "no ratio (no fp32 file to compare with)"
    needed = sibling.manifest.artifact_sha256
    like = [o for o in found if o.artifact_sha256 == needed and o.setting == one.setting]
    if not like:
        return None, f"no ratio (no fp32 result of {one.device.name} on {one.units})"
    # Several are alike but for the units asked for; a disturbed one must not become the measure.
    valid = [other for other in like if not other.latency.invalid_reasons()]
    if not valid:
        return None, f"no ratio (the fp32 result of {one.device.name} is INVALID)"
    return one.latency.against(valid[0].latency).latency_ratio, None


def _timed_row(row: Row, one: DeviceLatency, ratio: float | None, reason: str | None) -> Row:
    latency = one.latency
    return replace(
        _unjudged(row),
        device=one.device.name,
        device_kind=one.device.kind,
        accelerator=one.units,
        runner=one.runner,
        latency_ratio=ratio,
        median_ms=latency.median_ms,
        latency_protocol=latency.protocol,
        latency_validity=latency.validity,
        threads=latency.threads,
        latency_reason=reason,
        machine=one.machine,
    )


def _unjudged(row: Row) -> Row:
    """``row`` without what was measured on this machine."""
    unmeasured = not_run(_NOT_COMPARED)
    return replace(
        row,
        verdict=str(unmeasured.outcome),
        reason=unmeasured.reason,
        checks={name: unmeasured.to_json() for name in ("parity", "quality")},
        psnr_db=None,
        worst_psnr_db=None,
        residual_psnr_db=None,
        drop_db=None,
        worst_drop_db=None,
        gain_kept=None,
        ssim=None,
        residual_snr_db=None,
        graph_psnr_db=None,
        graph_worst_psnr_db=None,
        graph_gap_db=None,
        worst_tile_db=None,
        splits={},
        hops=[],
        executions=[],
        captures_sha256=None,
        machine=None,
    )
