"""pytest plugin: ``--full``, what to do without an SDK, and the table of runtimes exercised.

A runtime's marker is its key. A test with it is skipped where the SDK is not installed; in CI
(``CI=true``) it fails instead, so that a green run always means that the runtime was tried.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError, version

import pytest

from export.variants import RUNTIMES, RuntimeRow

_REAL_RUNTIMES: dict[str, RuntimeRow] = dict(RUNTIMES)
"""A copy, because tests change the table."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the long groups (slow)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "slow" in item.keywords and not config.getoption("--full"):
            item.add_marker(pytest.mark.skip(reason="long; run with --full"))
        if "macos" in item.keywords and sys.platform != "darwin":
            item.add_marker(pytest.mark.skip(reason="needs macOS"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for key in _runtimes_of(item):
        for name in _missing(key):
            reason = f"{key}: {name} is not installed"
            if in_ci():
                pytest.fail(f"{reason}, and CI must try every runtime", pytrace=False)
            pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = {key: Counter[str]() for key in _REAL_RUNTIMES}
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            for key in counts.keys() & getattr(report, "keywords", {}).keys():
                counts[key][outcome] += 1
    if not any(counts.values()):
        return
    terminalreporter.section("runtimes exercised")
    for key, count in counts.items():
        terminalreporter.write_line(f"{key:<12}{_summary(key, count)}")


def _summary(key: str, count: Counter[str]) -> str:
    if not count["passed"] and not count["failed"]:
        missing = ", ".join(_missing(key))
        return f"NOT exercised ({f'{missing} is missing' if missing else 'no test ran'})"
    return ", ".join(f"{number} {outcome}" for outcome, number in count.items())


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true")


def _runtimes_of(item: pytest.Item) -> list[str]:
    return [key for key in _REAL_RUNTIMES if item.get_closest_marker(key)]


def _missing(key: str) -> list[str]:
    missing = []
    for name in _REAL_RUNTIMES[key].distributions:
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    return missing
