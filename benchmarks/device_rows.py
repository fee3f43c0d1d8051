"""Rows of results imported from devices: times alone, since no picture came back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.device_results import DeviceLatency
from benchmarks.row import Row
from benchmarks.verdict import not_run
from dfnet.artifact import Artifact

_NOT_COMPARED = "outputs were not compared on this device"


def device_rows(
    row: Row, sibling: Artifact | None, found: Sequence[DeviceLatency]
) -> Iterator[Row]:
    """A row per result of the file of ``row``.

    ``sibling`` is the fp32 file of the same runtime, backend and resolution; a ratio is over its
    result on the same device, by the same runner, on the same accelerator units.
    """
    for one in found:
        if one.artifact_sha256 == row.artifact_sha256:
            yield _device_row(row, one, *_ratio(one, sibling, found))


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


def _device_row(row: Row, one: DeviceLatency, ratio: float | None, reason: str | None) -> Row:
    unmeasured = not_run(_NOT_COMPARED)
    latency = one.latency
    return replace(
        row,
        device=one.device.name,
        device_kind=one.device.kind,
        accelerator=one.units,
        runner=one.runner,
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
        latency_ratio=ratio,
        median_ms=latency.median_ms,
        latency_protocol=latency.protocol,
        latency_validity=latency.validity,
        threads=latency.threads,
        latency_reason=reason,
    )
