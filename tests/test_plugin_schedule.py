"""How tests are spread over workers, tried with tests that write down where and when they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from plugin_schedule import LONGEST

TESTS = Path(__file__).parent

# The test that may be marked stands first, so that nothing but its mark makes it last.
NOTED = """
import json, os, time
import pytest

def note(name):
    start = time.monotonic()
    time.sleep(0.05)
    row = [__file__, name, os.environ["PYTEST_XDIST_WORKER"], start, time.monotonic()]
    with open({log!r}, "a") as log:
        log.write(json.dumps(row) + "\\n")

{mark}
def test_first():
    note("first")

@pytest.mark.parametrize("number", range(6))
def test_usual(number):
    note("usual")
"""


@dataclass(frozen=True)
class Ran:
    """A test that ran, in a worker, from one moment to another."""

    file: str
    name: str
    worker: str
    start: float
    end: float


def run(folder: Path, marks: list[str], *arguments: str) -> list[Ran]:
    """Runs a file of seven tests per mark in two workers; what ran."""
    log = folder / "log"
    for number, mark in enumerate(marks):
        text = NOTED.format(log=str(log), mark=mark)
        (folder / f"test_{number}.py").write_text(text)
    (folder / "conftest.py").write_text('pytest_plugins = ["plugin_schedule"]\n')
    markers = "markers =\n serial: alone\n emulator: together\n"
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = -p no:anyio\n{markers}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if log.exists() else 5), done.stdout + done.stderr
    return [Ran(*json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


def test_files_stay_whole_and_serial_tests_wait_for_all_others(tmp_path: Path) -> None:
    ran = run(tmp_path, ["@pytest.mark.serial", "", ""])
    assert len(ran) == 21
    assert (ran[-1].name, ran[-1].file[-9:]) == ("first", "test_0.py")
    assert ran[-1].start >= max(one.end for one in ran[:-1])
    workers = [{one.worker for one in ran if one.file.endswith(f"{n}.py")} for n in (1, 2)]
    assert [len(found) for found in workers] == [1, 1]
    assert len({one.worker for one in ran}) == 2


def test_tests_on_an_emulated_device_share_a_worker(tmp_path: Path) -> None:
    ran = run(tmp_path, ["@pytest.mark.emulator", "", "@pytest.mark.emulator"])
    assert len(ran) == 21
    marked = [one for one in ran if one.name == "first" and not one.file.endswith("1.py")]
    assert len({one.worker for one in marked}) == 1


def test_one_file_with_a_serial_test_ends(tmp_path: Path) -> None:
    assert [one.name for one in run(tmp_path, ["@pytest.mark.serial"])][-1] == "first"


def test_unmarked_tests_run_in_the_order_written(tmp_path: Path) -> None:
    """What a serial test is told apart from."""
    assert next(iter(run(tmp_path, [""]))).name == "first"


def test_a_selection_of_nothing_is_pytests_error(tmp_path: Path) -> None:
    assert run(tmp_path, [""], "-k", "no_such_test") == []


def test_the_longest_files_exist() -> None:
    assert [name for name in LONGEST if not (TESTS / name).exists()] == []
    assert len(set(LONGEST)) == len(LONGEST)
