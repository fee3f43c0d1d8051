"""One runtime's line: our int8 file beside the SDK's own, from rows of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.row import Row
from dfnet.errors import ArtifactError

FLOAT, UNFUSED, OURS, FULL, PEER = "fp32", "fp32-unfused", "int8", "int8-full", "sdk-default"
RECIPES = (FLOAT, OURS, FULL, PEER)
"""``fp32`` is the SDK's plain float export of the fused network too; see docs/performance.md."""


@dataclass(frozen=True)
class Comparison:
    """What ``python -m benchmarks.peers --json`` prints per runtime; not measured is None.

    All times are medians of one interleaved run of the very files that were scored.
    ``speed_ratio`` is ``peer_ms / ours_ms``, ``over_fp32`` is ``fp32_ms / ours_ms``,
    ``fusing_ratio`` is ``unfused_ms / fp32_ms``: over 1 is faster. Drops are dB lost to the float
    network against the truth, mean and worst over held-out captures. ``gmac_per_s`` counts the
    fused float network's multiply-accumulates; ``peak_gmac_per_s`` is an int8 2048 x 2048 x 2048
    matrix product in the same runtime. ``validity`` is VALID, or why the times are not to be
    trusted. ``profile_ms`` is our file's time by kind of operator, where the runtime says.
    """

    runtime: str
    resolution: str
    ours_ms: float | None
    peer_ms: float | None
    speed_ratio: float | None
    fp32_ms: float | None
    over_fp32: float | None
    full_ms: float | None
    full_over_fp32: float | None
    unfused_ms: float | None
    fusing_ratio: float | None
    ours_drop_db: float | None
    ours_worst_drop_db: float | None
    full_drop_db: float | None
    peer_drop_db: float | None
    peer_worst_drop_db: float | None
    ours_bytes: int
    peer_bytes: int
    fp32_bytes: int
    gmac_per_s: float | None
    peak_gmac_per_s: float | None
    validity: str
    profile_ms: dict[str, float] | None
    artifacts: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    rows: Sequence[Row],
    *,
    network_macs: int,
    peak: float | None,
    profile_ms: dict[str, float] | None,
) -> Comparison:
    """The comparison of one runtime's rows: one per recipe of ``RECIPES``, and ``fp32-unfused``
    where the runtime can hold it.

    ``network_macs`` are the float network's at the rows' resolution, ``peak`` GMAC/s.

    Raises:
        ArtifactError: a recipe without a row, or several resolutions or runtimes.
    """
    files = _by_recipe(rows)
    milliseconds = {recipe: row.median_ms for recipe, row in files.items()}
    ours = milliseconds[OURS]
    return Comparison(
        runtime=files[OURS].runtime,
        resolution=files[OURS].resolution,
        ours_ms=ours,
        peer_ms=milliseconds[PEER],
        speed_ratio=_ratio(milliseconds[PEER], ours),
        fp32_ms=milliseconds[FLOAT],
        over_fp32=_ratio(milliseconds[FLOAT], ours),
        full_ms=milliseconds[FULL],
        full_over_fp32=_ratio(milliseconds[FLOAT], milliseconds[FULL]),
        unfused_ms=milliseconds.get(UNFUSED),
        fusing_ratio=_ratio(milliseconds.get(UNFUSED), milliseconds[FLOAT]),
        ours_drop_db=files[OURS].drop_db,
        ours_worst_drop_db=files[OURS].worst_drop_db,
        full_drop_db=files[FULL].drop_db,
        peer_drop_db=files[PEER].drop_db,
        peer_worst_drop_db=files[PEER].worst_drop_db,
        ours_bytes=files[OURS].artifact_bytes,
        peer_bytes=files[PEER].artifact_bytes,
        fp32_bytes=files[FLOAT].artifact_bytes,
        gmac_per_s=None if ours is None else network_macs / 1e6 / ours,
        peak_gmac_per_s=peak,
        validity=_validity(files),
        profile_ms=profile_ms,
        artifacts={recipe: row.artifact_sha256 for recipe, row in files.items()},
    )


def _by_recipe(rows: Sequence[Row]) -> dict[str, Row]:
    files = {row.recipe: row for row in rows}
    kinds = {(row.runtime, row.backend, row.resolution) for row in rows}
    missing = [recipe for recipe in RECIPES if recipe not in files]
    if missing or len(kinds) != 1 or len(files) != len(rows):
        raise ArtifactError(
            f"Peers: got {len(rows)} rows of {sorted(kinds)} without {', '.join(missing) or 'none'}"
            f" missing, needed one row for each of {', '.join(RECIPES)} of one runtime, backend "
            "and resolution. Measure again."
        )
    return files


def _ratio(over: float | None, under: float | None) -> float | None:
    return None if over is None or under is None else over / under


def _validity(files: Mapping[str, Row]) -> str:
    reasons = [
        f"{recipe}: {row.latency_validity or row.latency_reason}"
        for recipe, row in files.items()
        if row.latency_validity != "VALID"
    ]
    return "; ".join(reasons) or "VALID"
