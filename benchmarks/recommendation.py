"""int8 must earn its place: where it is not faster than float, the float file is recommended."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.row import Row
from benchmarks.verdict import Outcome
from dfnet.profiles import Precision

_FLOAT = (Precision.FP32, Precision.FP16, Precision.W8)
"""Precisions whose arithmetic is float."""


def recommendations(rows: Sequence[Row]) -> list[str]:
    """One sentence for every timed int8 file that is no faster than the fastest float file.

    Files are compared by their latency ratios, within one runtime, backend, resolution and device,
    whose files were timed in turn. A float file that did not pass is not recommended.
    """
    said = []
    for row in rows:
        if row.precision in _FLOAT or row.latency_ratio is None:
            continue
        rivals = [other for other in rows if _is_rival(row, other)]
        if not rivals:
            continue
        best = min(rivals, key=_ratio)
        share = row.latency_ratio / _ratio(best)
        if share >= 1:
            said.append(_sentence(row, best, share))
    return said


def _is_rival(row: Row, other: Row) -> bool:
    timed = other.precision in _FLOAT and other.latency_ratio is not None
    return timed and other.verdict == Outcome.PASSED and _place(row) == _place(other)


def _place(row: Row) -> tuple[str | None, ...]:
    file = (row.platform, row.runtime, row.backend, row.resolution)
    return (*file, row.device_kind, row.device, row.runner, row.accelerator)


def _ratio(row: Row) -> float:
    assert row.latency_ratio is not None
    return row.latency_ratio


def _sentence(row: Row, best: Row, share: float) -> str:
    valid = row.latency_validity == best.latency_validity == "VALID"
    doubt = "" if valid else " (measured under INVALID conditions: measure again)"
    return (
        f"{row.runtime} {row.backend} {row.resolution}: {row.recipe} takes {share:.2f} of the time "
        f"of {best.recipe}{doubt}. Ship {best.recipe}."
    )
