"""Verdicts as JUnit XML, so that CI systems show each check as a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from benchmarks.results import write_text
from benchmarks.verdict import Outcome, Verdict


class Judged(Protocol):
    """A file in one place and what became of each of its checks."""

    @property
    def name(self) -> str: ...
    @property
    def checks(self) -> Mapping[str, Verdict]: ...
    @property
    def changes(self) -> Sequence[str]: ...


def write_junit(path: Path, files: Sequence[Judged], *, title: str, required: bool = False) -> None:
    """A suite per file and device, a case per check; whole or not at all.

    A check that was not run is a skipped case, never a passed one; with ``required``, where it
    fails the command, an error.

    Raises:
        ArtifactError: the file cannot be written.
    """
    report = JUnitXml(title)
    for file in files:
        suite = TestSuite(file.name)
        for check, verdict in file.checks.items():
            suite.add_testcase(_case(file, check, verdict, required=required))
        report.add_testsuite(suite)
    # junitparser leaves these two without annotations.
    report.update_statistics()  # type: ignore[no-untyped-call]
    text: bytes = report.tostring()  # type: ignore[no-untyped-call]
    write_text(path, text.decode() + "\n")


def _case(file: Judged, check: str, verdict: Verdict, *, required: bool) -> TestCase:
    case = TestCase(check, classname=file.name)
    if verdict.outcome is Outcome.FAILED:
        case.result = [Failure(verdict.reason)]
    elif verdict.outcome is Outcome.NOT_RUN:
        case.result = [(Error if required else Skipped)(verdict.reason)]
    case.system_out = "\n".join(file.changes)
    return case
