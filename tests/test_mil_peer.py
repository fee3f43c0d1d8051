"""Apple's own operation tests, from the coremltools wheel, against the evaluator.

A fixed sample of them runs always, a larger one with ``--full``; docs/coreml-evaluator.md has the
figures of the whole set. See ``coreml_peer`` for how they are made to run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
EXPLAINED = json.loads((HERE / "coreml_peer_explained.json").read_text())
OPERATION_TESTS = ("converters/mil/mil/ops/tests",)
ALL_TESTS = (
    *OPERATION_TESTS,
    "converters/mil/frontend/torch/test",
    "converters/mil/mil/tests/test_programs.py",
    "converters/mil/test_inputs_outputs_shape.py",
    "converters/mil/mil/passes/tests/test_passes.py",
    "test/optimize/coreml",
)
SPLIT_TEST = "converters/mil/mil/ops/tests/iOS14/test_tensor_transformation.py"

pytestmark = [pytest.mark.coreml, pytest.mark.peer]


def run_peers(
    cases: Path, tests: tuple[str, ...], report: Path, mutant: str = ""
) -> list[dict[str, Any]]:
    """What became of the listed cases, in a process that believes to be on macOS."""
    found = importlib.util.find_spec("coremltools")
    assert found is not None
    assert found.origin is not None
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
        "PYMIL_TEST_TARGETS": "mlprogram",
        "INCLUDE_MIL_FP32_UNIT_TESTS": "1",
        "OMP_NUM_THREADS": "1",
        "COREML_PEER_CASES": str(cases),
        "COREML_PEER_REPORT": str(report),
        "COREML_PEER_MUTANT": mutant,
    }
    plugins = ("coreml_peer", "no:cacheprovider", "no:anyio", "no:hypothesispytest",
               "no:jaxtyping", "no:kgb", "no:hydra_pytest", "no:xdist")  # fmt: skip
    options = [option for plugin in plugins for option in ("-p", plugin)]
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-W", "ignore", *options]
    done = subprocess.run(
        [*command, "--rootdir=.", "-c", os.devnull, *tests],
        cwd=Path(found.origin).parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    ran = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    assert done.returncode in ran, done.stdout[-3000:] + done.stderr[-1000:]
    return [json.loads(line) for line in report.read_text().splitlines()]


def check(results: list[dict[str, Any]], cases: Path) -> Counter[str]:
    wanted = set(cases.read_text().splitlines())
    assert {result["case"] for result in results} == wanted
    must_fail = {case for entry in EXPLAINED for case in entry["cases"]}
    assert all(result["predictions"] for result in results)
    odd = [
        f"{result['case']}: {result['outcome']} {result['reason']}"
        for result in results
        if (result["outcome"] == "passed") == (result["case"] in must_fail)
    ]
    assert not odd, "\n".join(odd)
    return Counter(result["outcome"] for result in results)


def test_a_sample_of_apples_operation_tests_passes(tmp_path: Path) -> None:
    cases = HERE / "coreml_peer_quick.txt"
    counts = check(run_peers(cases, OPERATION_TESTS, tmp_path / "report.jsonl"), cases)
    assert counts["passed"] >= 100


def test_the_page_quotes_the_totals_of_the_whole_set() -> None:
    page = (HERE.parent / "docs" / "coreml-evaluator.md").read_text()
    totals = json.loads((HERE.parent / "docs" / "coreml-peer.json").read_text())
    for row, key in (("reached a prediction", "predicted"), ("passed", "passed")):
        numbers = [group[key] for group in totals.values()]
        cells = " | ".join(f"{number:,}" for number in (*numbers, sum(numbers)))
        assert f"| {row} | {cells}" in page
    predicted, passed = (sum(g[k] for g in totals.values()) for k in ("predicted", "passed"))
    assert passed / predicted >= 0.97
    failed = [n for g in totals.values() for k, n in g.items() if k not in ("predicted", "passed")]
    assert sum(failed) == predicted - passed


def test_the_page_quotes_the_measured_speeds() -> None:
    page = (HERE.parent / "docs" / "coreml-evaluator.md").read_text()
    rows = json.loads((HERE.parent / "docs" / "coreml-speed.json").read_text())
    for package in ("float32", "float16"):
        ratios = [f"{row['ratio']:.2f}" for row in rows if row["package"] == package]
        assert f"| {package} | {' | '.join(ratios)} |" in page


@pytest.mark.slow
def test_the_large_sample_of_apples_tests_passes(tmp_path: Path) -> None:
    cases = HERE / "coreml_peer_full.txt"
    counts = check(run_peers(cases, ALL_TESTS, tmp_path / "report.jsonl"), cases)
    assert counts["passed"] >= 600


def test_a_wrong_evaluator_fails_the_sample(tmp_path: Path) -> None:
    cases = tmp_path / "cases.txt"
    quick = (HERE / "coreml_peer_quick.txt").read_text().splitlines()
    cases.write_text("".join(f"{case}\n" for case in quick if SPLIT_TEST in case))
    mutant = "split gives its parts backwards"
    with pytest.raises(AssertionError, match="TestSplit"):
        check(run_peers(cases, (SPLIT_TEST,), tmp_path / "report.jsonl", mutant), cases)
