"""One line of every report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One artifact on one device. The fields down to ``size_ratio`` are a stable interface.

    ``psnr_db`` and ``residual_psnr_db`` are against the trained float network, ``graph_psnr_db``
    against the graph that was lowered. ``latency_ratio`` is over the fp32 file of the same runtime
    and backend on the same device, on a host in the same run; a host's says nothing about a phone.
    What was not measured is None, and ``latency_reason`` says why there is no time or no ratio.

    ``device`` is what judged the file, of ``device_kind`` ``evaluator`` for the reference
    evaluator. A file that was judged in several ``executions`` shows the figures of the worst one,
    ``device``. ``graph_gap_db`` is how far an int8 file's PSNR is from its quantized graph's. A row
    of a device has the ``runner`` that measured it and the ``accelerator`` that ran; its only
    hop is from this machine's output to the device's. ``insn_proxy_ms`` counts instructions on an
    emulated device, its ratio is over the fp32 file's; neither is a latency. ``captures_sha256``
    is the set that the figures in decibels are on, ``machine`` the processor or the phone that was
    timed: rows that differ in them are not compared.
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
    graph_gap_db: float | None
    worst_tile_db: float | None
    splits: dict[str, dict[str, float | None]]
    hops: list[dict[str, Any]]
    executions: list[dict[str, Any]]
    delegate_calls: int | None
    undelegated_convolutions: int | None
    median_ms: float | None
    latency_protocol: str | None
    latency_validity: str | None
    threads: int | None
    latency_reason: str | None
    device_kind: str | None
    accelerator: str | None
    runner: str | None
    insn_proxy_ms: float | None = None
    insn_proxy_ratio: float | None = None
    captures_sha256: str | None = None
    machine: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
