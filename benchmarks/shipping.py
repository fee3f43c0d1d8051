"""Is a file safe to ship? Only when everything that decides ran and cleared its bar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.quality import RECIPE_BARS
from benchmarks.row import Row
from benchmarks.verdict import Outcome
from dfnet.profiles import Precision


class Ship(StrEnum):
    """A check that was not run never counts as a pass."""

    SHIP = "ship"
    UNVERIFIED = "not verified"
    NO = "do not ship"


@dataclass(frozen=True)
class Decision:
    """What to do with one file. ``reasons`` say why not to ship it; ``open`` is what nobody has
    measured, although the file may be shipped without it."""

    ship: Ship
    reasons: tuple[str, ...]
    open: tuple[str, ...]


@dataclass(frozen=True)
class Recommendation:
    """The file to take of one runtime, backend and resolution; None when none may be shipped."""

    group: str
    row: Row | None
    why: str


_FLOAT = (Precision.FP32, Precision.FP16, Precision.W8)


def decide(rows: Sequence[Row]) -> Decision:
    """The decision on one file at one resolution: ``rows`` are this machine's and its devices'."""
    judged = [row for row in rows if row.runner is None]
    devices = [row for row in rows if row.runner is not None]
    failures = [_said(row) for row in rows if row.verdict == Outcome.FAILED]
    if failures:
        return Decision(Ship.NO, tuple(failures), _open(judged, devices))
    unknown = [_said(row) for row in judged if row.verdict != Outcome.PASSED]
    if unknown or not judged:
        reasons = tuple(unknown) or ("it was not judged on this machine",)
        return Decision(Ship.UNVERIFIED, reasons, _open(judged, devices))
    return Decision(Ship.SHIP, (), _open(judged, devices))


def _said(row: Row) -> str:
    reason = row.reason or f"{row.verdict}, no reason given"
    return reason if row.runner is None else f"on {row.device}: {reason}"


def _open(judged: Sequence[Row], devices: Sequence[Row]) -> tuple[str, ...]:
    """What was measured nowhere."""
    phones = [row for row in devices if row.device_kind == "device"]
    compared = {row.device_kind for row in devices if row.psnr_db is not None or row.hops}
    found = []
    if any(row.device_kind == "evaluator" for row in judged):
        found.append("Executed by the reference evaluator, not by Core ML itself.")
    if "device" not in compared:
        found.append("Outputs were not compared on a phone.")
    if not compared:
        found.append("Nor were they on an emulated device.")
    if not any(row.median_ms for row in phones):
        found.append("No phone has timed it.")
    return tuple(found)


def overall(decisions: Iterable[Decision]) -> Ship:
    """The worst decision decides; nothing at all is not verified."""
    ships = [one.ship for one in decisions]
    order = (Ship.NO, Ship.UNVERIFIED, Ship.SHIP)
    return next((ship for ship in order if ship in ships), Ship.UNVERIFIED)


def recommend(decided: Sequence[tuple[Row, Decision]]) -> tuple[Recommendation, ...]:
    """The file to take of every runtime, backend and resolution, from this machine's rows.

    Of the files that may be shipped: one held to looser bars only when there is no other; the
    fastest by latency ratio; where none was timed, the smallest that computes in float.
    """
    groups: dict[tuple[str, ...], list[tuple[Row, Decision]]] = {}
    for row, decision in decided:
        groups.setdefault((row.runtime, row.backend, row.resolution), []).append((row, decision))
    return tuple(_best(" ".join(group), pairs) for group, pairs in groups.items())


def recommended(rows: Sequence[Row]) -> tuple[Recommendation, ...]:
    """``recommend`` from rows alone, those of devices included."""
    files: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        files.setdefault((row.platform, row.artifact, row.resolution), []).append(row)
    decided = [(group, decide(group)) for group in files.values()]
    judged = [(row, decision) for group, decision in decided for row in group if row.runner is None]
    return recommend(judged)


def _best(group: str, pairs: Sequence[tuple[Row, Decision]]) -> Recommendation:
    passed = [row for row, decision in pairs if decision.ship is Ship.SHIP]
    if not passed:
        return Recommendation(group, None, "No file of it may be shipped.")
    strict = [row for row in passed if row.recipe not in RECIPE_BARS]
    chosen = strict or passed
    best, why = _among(chosen)
    if len(chosen) == 1:
        why = _ONLY if len(passed) == 1 else _ONLY_STRICT
    return Recommendation(group, best, f"{why}{'' if strict else _LOOSE}")


def _among(rows: Sequence[Row]) -> tuple[Row, str]:
    timed = [row for row in rows if row.latency_ratio is not None]
    if len(timed) > 1:
        best = min(timed, key=lambda row: row.latency_ratio or 0.0)
        return best, _FASTEST if best.latency_validity == "VALID" else f"{_FASTEST}{_DOUBT}"
    floats = [row for row in rows if row.precision in _FLOAT] or rows
    return min(floats, key=lambda row: row.artifact_bytes), _SMALLEST


_FASTEST = "The fastest of those held to the usual bars, by time over fp32 on this machine."
_SMALLEST = "No times to compare: the smallest file that computes in float."
_ONLY = "The only one that may be shipped."
_ONLY_STRICT = "The only one held to the usual bars that may be shipped."
_DOUBT = " Its time is INVALID: measure again."
_LOOSE = " It is held to looser bars than the other recipes."
