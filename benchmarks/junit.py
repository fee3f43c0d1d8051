"""Regressions as JUnit XML, so that CI systems show each check as a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from benchmarks.regression import Regression
from benchmarks.results import write_text
from benchmarks.verdict import Outcome, Verdict


def write_junit(path: Path, regressions: Sequence[Regression]) -> None:
    """A suite per file and device, a case per check; whole or not at all.

    A check that was not run is a skipped case, never a passed one.

    Raises:
        ArtifactError: the file cannot be written.
    """
    report = JUnitXml("benchmarks compare")
    for regression in regressions:
        suite = TestSuite(regression.name)
        for check, verdict in regression.checks.items():
            suite.add_testcase(_case(regression, check, verdict))
        report.add_testsuite(suite)
    # junitparser leaves these two without annotations.
    report.update_statistics()  # type: ignore[no-untyped-call]
    text: bytes = report.tostring()  # type: ignore[no-untyped-call]
    write_text(path, text.decode() + "\n")


def _case(regression: Regression, check: str, verdict: Verdict) -> TestCase:
    case = TestCase(check, classname=regression.name)
    if verdict.outcome is Outcome.FAILED:
        case.result = [Failure(verdict.reason)]
    elif verdict.outcome is Outcome.NOT_RUN:
        case.result = [Skipped(verdict.reason)]
    case.system_out = "\n".join(regression.changes)
    return case
