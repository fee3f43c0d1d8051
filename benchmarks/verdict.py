"""Verdicts: passed, failed, or not run, and the bars that decide between the first two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from dfnet.errors import MetricError


class Outcome(StrEnum):
    """There is no fourth: a check that was skipped, is unknown or was forgotten is not run."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Verdict:
    """What became of one check. Everything but a pass says why; a pass has nothing to explain."""

    outcome: Outcome
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.outcome is Outcome.PASSED) == bool(self.reasons):
            raise MetricError(
                f"Verdict {self.outcome}: got reasons {self.reasons}, needed reasons exactly when "
                "a check did not pass."
            )

    def __str__(self) -> str:
        return f"{self.outcome} ({self.reason})" if self.reasons else str(self.outcome)

    @property
    def reason(self) -> str | None:
        """All reasons in one line; None for a pass."""
        return "; ".join(self.reasons) or None

    @property
    def is_passed(self) -> bool:
        return self.outcome is Outcome.PASSED

    def to_json(self) -> dict[str, Any]:
        return {"outcome": str(self.outcome), "reasons": list(self.reasons)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        return cls(Outcome(data["outcome"]), tuple(data["reasons"]))


PASSED = Verdict(Outcome.PASSED)


def failed(*reasons: str) -> Verdict:
    """A check that ran and missed."""
    return Verdict(Outcome.FAILED, reasons)


def not_run(*reasons: str) -> Verdict:
    """A check that could not be made; never green."""
    return Verdict(Outcome.NOT_RUN, reasons)


def combine(checks: Mapping[str, Verdict]) -> Verdict:
    """One verdict for a cell: a failure outweighs a check that was not run, which outweighs passes.

    Raises:
        MetricError: there is nothing to combine; an empty cell must not pass.
    """
    if not checks:
        raise MetricError("Verdict: got no checks, needed at least one.")
    for outcome in (Outcome.FAILED, Outcome.NOT_RUN):
        reasons = [v.reason for v in checks.values() if v.outcome is outcome and v.reason]
        if reasons:
            # Several checks of a cell are not run for one and the same reason.
            return Verdict(outcome, tuple(dict.fromkeys(reasons)))
    return PASSED


@dataclass(frozen=True)
class Bar:
    """A threshold on one named figure, for example ``Bar("drop_db", "at most", 0.10, "dB")``."""

    figure: str
    sense: Literal["at most", "at least"]
    limit: float
    unit: str = ""

    def miss(self, value: float) -> str | None:
        """Why ``value`` misses the bar, or None when it clears it. NaN misses every bar."""
        clears = value <= self.limit if self.sense == "at most" else value >= self.limit
        if clears:
            return None
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.figure} {value:.4g}{unit}, needed {self.sense} {self.limit:g}{unit}"


def judge(figures: Mapping[str, float | None], bars: Iterable[Bar]) -> Verdict:
    """Holds measured figures against bars.

    A figure that is None could not be measured; its bar is not run.

    Raises:
        MetricError: there are no bars, or a bar names a figure nobody measures.
    """
    bars = tuple(bars)
    unknown = [bar.figure for bar in bars if bar.figure not in figures]
    if not bars or unknown:
        raise MetricError(
            f"Bars: got {unknown or 'none'}, needed at least one, each on one of "
            f"{', '.join(figures)}."
        )
    values = [(bar, figures[bar.figure]) for bar in bars]
    misses = tuple(miss for bar, v in values if v is not None and (miss := bar.miss(v)))
    if misses:
        return failed(*misses)
    unmeasured = tuple(f"{bar.figure} could not be measured" for bar, v in values if v is None)
    return not_run(*unmeasured) if unmeasured else PASSED
