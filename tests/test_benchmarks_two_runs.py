"""``python -m benchmarks compare OLD NEW``: what counts as worse, and what must not be compared."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import main
from benchmarks.two_runs import RATIO, REPORT, compare_runs, is_worse, read_report
from dfnet.console import run_command
from dfnet.errors import DFNetError

ROW: dict[str, Any] = {
    "platform": "android",
    "runtime": "litert",
    "backend": "xnnpack",
    "recipe": "int8",
    "resolution": "64x64",
    "verdict": "passed",
    "artifact_sha256": "a" * 64,
    "artifact_bytes": 1000,
    "device": "host, 2 threads",
    "runner": None,
    "accelerator": None,
    "psnr_db": 57.0,
    "drop_db": 0.010,
    "latency_ratio": 0.40,
    "latency_validity": "VALID",
    "latency_protocol": "full",
    "threads": 2,
    "captures_sha256": "c" * 64,
    "machine": "A processor",
    "a_field_of_tomorrow": 1,
}
OTHER = {**ROW, "recipe": "fp32", "artifact_bytes": 3000}

Write = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(name, *rows)``: a report of these rows."""

    def to(name: str, *rows: dict[str, Any]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))
        return path

    return to


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # pytest keeps its own

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            run_command(main, ["compare", *map(str, arguments)])
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, *capfd.readouterr()

    return call


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"drop_db": 0.029}, None),
        ({"drop_db": 0.031}, "drop grew by 0.021 dB"),
        ({"drop_db": -0.5, "psnr_db": 60.0}, None),
        ({"drop_db": None}, "the new report has no drop_db"),
        ({"captures_sha256": "d" * 64}, "other captures"),
        ({"captures_sha256": None}, "not recorded now"),
        ({"artifact_bytes": 1050}, None),
        ({"artifact_bytes": 1051}, "1.051 of the old bytes"),
        ({"latency_ratio": 0.419}, None),
        ({"latency_ratio": 0.425}, "of the old ratio"),
        ({"verdict": "failed"}, "failed, passed before"),
        ({"verdict": "not run"}, "not run, passed before"),
    ],
)
def test_past_a_threshold_or_not_comparable_is_worse(
    write: Write, changes: dict[str, Any], words: str | None
) -> None:
    old, new = (read_report(write(n, row)) for n, row in (("o", ROW), ("n", {**ROW, **changes})))
    (found,) = compare_runs(old, new)
    assert is_worse(found) is (words is not None)
    assert words is None or words in str(found.verdict)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machine": "Another"}, "other machine: A processor before, Another now"),
        ({"machine": None}, "not recorded now"),
        ({"latency_validity": "INVALID"}, "the new timing is INVALID"),
        ({"latency_protocol": "quick"}, "other protocol"),
        ({"threads": 4}, "other thread count"),
        ({"latency_ratio": None}, "the new report has no ratio"),
    ],
)
def test_ratios_of_unlike_runs_are_neither_compared_nor_worse(
    write: Write, changes: dict[str, Any], words: str
) -> None:
    slower = {**ROW, "latency_ratio": 4.0, **changes}
    (found,) = compare_runs(read_report(write("o", ROW)), read_report(write("n", slower)))
    assert not is_worse(found)
    assert f"not compared ({words}" in str(found.checks[RATIO]) or words in str(found.checks[RATIO])
    assert not found.checks[RATIO].is_passed


def test_prints_what_changed_and_exits_1(write: Write, run: Run, tmp_path: Path) -> None:
    worse = {**ROW, "drop_db": 0.2, "artifact_bytes": 900, "artifact_sha256": "b" * 64}
    old, new = write("old.json", ROW, OTHER), write("new.json", worse, OTHER)
    code, out, err = run(old, new, "--junit", tmp_path / "x.xml")
    assert (code, err) == (1, "")
    assert "drop_db 0.010 dB -> 0.200 dB (+0.190)" in out
    assert "900 bytes (-100, -10.0%)" in out
    suites = ElementTree.parse(tmp_path / "x.xml").getroot()
    assert [int(suite.get("failures", 0)) for suite in suites] == [1, 0]
    assert [len(suite.findall("testcase")) for suite in suites] == [4, 4]
    assert run(old, old)[0] == 0


def test_json_is_an_entry_per_file(write: Write, run: Run) -> None:
    code, out, _ = run(write("o", ROW), write("n", ROW, OTHER), "--json")
    entries = json.loads(out)
    assert code == 0
    assert [one["worse"] for one in entries] == [False, False]
    assert entries[1]["changes"] == ["only in the new report"]


def test_a_file_that_is_gone_is_worse(write: Write, run: Run) -> None:
    code, out, _ = run(write("o", ROW, OTHER), write("n", ROW))
    assert code == 1
    assert "not in the new report" in out


def test_folders_of_artifacts_are_compared_by_their_report(write: Write, run: Run) -> None:
    old, new = (write(f"{name}/{REPORT}", ROW).parent.parent for name in ("old", "new"))
    assert run(old, new)[0] == 0


def test_a_device_is_not_taken_for_this_machine(write: Write) -> None:
    phone = {**ROW, "runner": "litert 1", "device": "Pixel", "accelerator": "cpu"}
    found = read_report(write("o", ROW, phone))
    assert len(found) == 2
    with pytest.raises(DFNetError, match="no file in common"):
        compare_runs(found, read_report(write("n", OTHER)))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no rows"),
        ([ROW, ROW], "two rows of android litert"),
        ([{**ROW, "artifact_bytes": "many"}], "artifact_bytes"),
        ([{**ROW, "drop_db": float("nan")}], "drop_db"),
        ([{"runtime": "litert"}], "platform"),
        (["row"], "needed a list of rows"),
    ],
)
def test_what_is_no_report_is_one_sentence(
    write: Write, run: Run, rows: list[Any], words: str
) -> None:
    code, out, err = run(write("o", *rows), write("n", ROW))
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1


def test_one_report_or_none_to_compare_is_refused(write: Write, run: Run, tmp_path: Path) -> None:
    assert run(write("o", ROW))[0] == 2
    code, _, err = run(write("o", ROW), tmp_path / "nowhere.json")
    assert code == 2
    assert "nowhere.json" in err
    assert run("--json")[0] == 2
    code, _, err = run(write("o", ROW), write("n", ROW), "--platform", "ios")
    assert code == 2
    assert "no rows of platform 'ios'" in err
