from __future__ import annotations

import math

import pytest

from benchmarks.verdict import PASSED, Bar, Outcome, Verdict, combine, failed, judge, not_run
from dfnet.errors import MetricError

DROP = Bar("drop_db", "at most", 0.10, "dB")
KEPT = Bar("gain_kept", "at least", 0.95)


def test_a_pass_has_no_reason_and_everything_else_has_one() -> None:
    assert PASSED.is_passed
    assert PASSED.reason is None
    with pytest.raises(MetricError, match="reasons"):
        Verdict(Outcome.FAILED)
    with pytest.raises(MetricError, match="reasons"):
        Verdict(Outcome.NOT_RUN)
    with pytest.raises(MetricError, match="reasons"):
        Verdict(Outcome.PASSED, ("but",))


def test_not_run_is_never_passed() -> None:
    verdict = not_run("needs macOS")
    assert not verdict.is_passed
    assert str(verdict) == "not run (needs macOS)"
    assert combine({"size": PASSED, "parity": verdict}) == verdict


def test_failure_outweighs_not_run_and_all_reasons_are_told() -> None:
    verdict = combine({"a": failed("x"), "b": not_run("y"), "c": failed("z"), "d": PASSED})
    assert verdict == failed("x", "z")


def test_nothing_to_combine_is_an_error() -> None:
    with pytest.raises(MetricError, match="no checks"):
        combine({})


@pytest.mark.parametrize(
    ("figures", "outcome"),
    [
        ({"drop_db": 0.10, "gain_kept": 0.95}, Outcome.PASSED),
        ({"drop_db": 0.11, "gain_kept": 0.99}, Outcome.FAILED),
        ({"drop_db": 0.0, "gain_kept": 0.949}, Outcome.FAILED),
        ({"drop_db": math.nan, "gain_kept": 1.0}, Outcome.FAILED),
        ({"drop_db": 0.0, "gain_kept": None}, Outcome.NOT_RUN),
        ({"drop_db": 0.2, "gain_kept": None}, Outcome.FAILED),
    ],
)
def test_figures_are_held_to_bars(figures: dict[str, float | None], outcome: Outcome) -> None:
    assert judge(figures, [DROP, KEPT]).outcome is outcome


def test_a_miss_tells_value_and_limit() -> None:
    reason = judge({"drop_db": 0.25}, [DROP]).reason
    assert reason == "drop_db 0.25 dB, needed at most 0.1 dB"


def test_no_bars_and_unknown_figures_are_errors() -> None:
    with pytest.raises(MetricError, match="none"):
        judge({"drop_db": 0.0}, [])
    with pytest.raises(MetricError, match="gain_kept"):
        judge({"drop_db": 0.0}, [KEPT])


def test_json_round_trip() -> None:
    for verdict in (PASSED, failed("a", "b"), not_run("c")):
        assert Verdict.from_json(verdict.to_json()) == verdict
