from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.report import markdown, print_rows
from benchmarks.results import Checks, Comparison, Execution
from benchmarks.row import Row
from benchmarks.rows import build_rows
from benchmarks.timing import LatencyResult, Repeat
from benchmarks.verdict import PASSED, not_run
from dfnet.artifact import Artifact
from dfnet.model import DFNet
from dfnet.runner import Device

from fake_artifacts import write_artifact
from fakes import use_fake_runtime

STABLE_KEYS = [
    "runtime",
    "backend",
    "precision",
    "recipe",
    "resolution",
    "device",
    "verdict",
    "reason",
    "psnr_db",
    "worst_psnr_db",
    "residual_psnr_db",
    "drop_db",
    "worst_drop_db",
    "gain_kept",
    "ssim",
    "latency_ratio",
    "artifact_bytes",
    "size_ratio",
]
HOST = Device("host", "fake")


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_fake_runtime(monkeypatch)
    return tmp_path


def passing(artifact: Artifact) -> Checks:
    figures: dict[str, float | None] = {"psnr_db": 55.5, "drop_db": 0.01, "gain_kept": 0.99}
    return Checks(
        key="k",
        artifact_sha256=artifact.manifest.artifact_sha256,
        device=HOST,
        executions=(Execution(HOST, PASSED, {}),),
        verdicts={"parity": PASSED, "quality": PASSED},
        figures=figures,
        splits={"refocus": {"input_db": 30.0, "drop_db": 0.02}},
        details={},
    )


def sized(artifact: Artifact, size: int) -> Artifact:
    return Artifact(artifact.folder, replace(artifact.manifest, artifact_bytes=size))


def rows_of(*artifacts: Artifact, comparisons: tuple[Comparison, ...] = ()) -> list[Row]:
    return build_rows(artifacts, [passing(artifact) for artifact in artifacts], comparisons)


def pair(output: Path, network: DFNet, *, ratio: float) -> tuple[Artifact, Artifact]:
    fp32 = write_artifact(output, network)
    int8 = write_artifact(output, network, recipe="int8", padding=1)
    return sized(fp32, 1000), sized(int8, int(1000 * ratio))


def timed(artifact: Artifact, protocol: str, ratio: float) -> Comparison:
    sha256 = artifact.manifest.artifact_sha256
    repeats = (Repeat(HOST, "fake", 1.0, 5.0, (2.0,), (3.0, 3.0), 0.0),)
    return Comparison("k", {sha256: LatencyResult(sha256, HOST, protocol, 1, repeats, ratio)})


def test_rows_start_with_the_stable_keys_in_order(output: Path, tiny_network: DFNet) -> None:
    (row,) = rows_of(write_artifact(output, tiny_network))
    data = row.to_json()
    assert list(data)[: len(STABLE_KEYS)] == STABLE_KEYS
    json.dumps(data, allow_nan=False)
    assert (data["verdict"], data["reason"], data["worst_drop_db"]) == ("passed", None, None)


def test_small_int8_passes_and_large_int8_fails(output: Path, tiny_network: DFNet) -> None:
    fp32, int8 = rows_of(*pair(output, tiny_network, ratio=0.35))
    assert (fp32.verdict, int8.verdict) == ("passed", "passed")
    assert (fp32.size_ratio, int8.size_ratio) == (1.0, 0.35)
    _, large = rows_of(*pair(output, tiny_network, ratio=0.36))
    assert (large.verdict, large.reason) == ("failed", "size_ratio 0.36, needed at most 0.35")


def test_int8_without_its_fp32_file_is_not_verified(output: Path, tiny_network: DFNet) -> None:
    (row,) = rows_of(pair(output, tiny_network, ratio=0.3)[1])
    assert (row.verdict, row.size_ratio) == ("not run", None)
    assert "no fp32 file" in str(row.reason)


def test_a_convolution_off_the_delegate_fails(output: Path, tiny_network: DFNet) -> None:
    (row,) = rows_of(write_artifact(output, tiny_network, undelegated=1))
    assert (row.verdict, row.undelegated_convolutions) == ("failed", 1)
    assert "undelegated_convolutions 1" in str(row.reason)


def test_an_artifact_nobody_checked_is_not_run(output: Path, tiny_network: DFNet) -> None:
    artifact = write_artifact(output, tiny_network)
    (row,) = build_rows([artifact], [], [])
    assert (row.verdict, row.device, row.psnr_db) == ("not run", None, None)
    assert "verify --platform android" in str(row.reason)


def test_results_of_another_file_do_not_count(output: Path, tiny_network: DFNet) -> None:
    artifact = write_artifact(output, tiny_network)
    stale = replace(passing(artifact), artifact_sha256="0" * 64)
    assert build_rows([artifact], [stale], [])[0].verdict == "not run"


def test_a_cell_that_did_not_run_is_never_green(output: Path, tiny_network: DFNet) -> None:
    artifact = write_artifact(output, tiny_network)
    unmade = {"parity": not_run("needs macOS")}
    unrun = replace(passing(artifact), verdicts=unmade, device=None, executions=())
    (row,) = build_rows([artifact], [unrun], [])
    assert (row.verdict, row.reason) == ("not run", "needs macOS")
    assert (row.device_kind, row.latency_reason) == (None, "not run (needs macOS)")


def test_the_full_protocol_outranks_the_quick_one(output: Path, tiny_network: DFNet) -> None:
    artifact = write_artifact(output, tiny_network)
    quick, full = timed(artifact, "quick", 0.5), timed(artifact, "full", 0.4)
    for comparisons in ((quick, full), (full, quick)):
        (row,) = rows_of(artifact, comparisons=comparisons)
        assert (row.latency_ratio, row.latency_protocol) == (0.4, "full")


EVALUATOR = Device("evaluator", "reference evaluator, declared arithmetic")


def evaluated(artifact: Artifact, backend: str) -> tuple[Artifact, Checks]:
    """An artifact of ``backend`` that only the reference evaluator ran."""
    one = Artifact(artifact.folder, replace(artifact.manifest, backend=backend))
    execution = Execution(EVALUATOR, PASSED, {})
    return one, replace(passing(one), device=EVALUATOR, executions=(execution,))


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("coreml", "not run (needs macOS)"),
        ("cpu", "not run (only the reference evaluator runs it)"),
    ],
)
def test_what_the_evaluator_judged_has_no_latency_and_says_why(
    output: Path, tiny_network: DFNet, backend: str, reason: str
) -> None:
    artifact, checks = evaluated(write_artifact(output, tiny_network), backend)
    (row,) = build_rows([artifact], [checks], [])
    assert (row.verdict, row.device_kind) == ("passed", "evaluator")
    assert (row.median_ms, row.latency_ratio, row.latency_reason) == (None, None, reason)
    stream = io.StringIO()
    print_rows([row], Console(file=stream, width=200))
    for text in (stream.getvalue(), markdown([row])):
        assert "reference evaluator" in " ".join(text.split())
        assert reason.replace("not run", "Latency not run") in text
        assert "device" not in text.partition("Latency ratio")[0]


def test_a_runtime_that_ran_is_timed_whatever_else_judged(
    output: Path, tiny_network: DFNet
) -> None:
    artifact, checks = evaluated(write_artifact(output, tiny_network), "coreml")
    checks = replace(checks, executions=(*checks.executions, Execution(HOST, PASSED, {})))
    (row,) = build_rows([artifact], [checks], [])
    assert "not timed yet: python -m benchmarks latency" in str(row.latency_reason)


def test_a_latency_without_a_ratio_says_why(output: Path, tiny_network: DFNet) -> None:
    artifact = write_artifact(output, tiny_network)
    comparison = timed(artifact, "full", 0.5)
    assert rows_of(artifact, comparisons=(comparison,))[0].latency_reason is None
    (found,) = comparison.results.values()
    for change, reason in (
        ({"latency_ratio": None}, "no ratio (no fp32 file of fake cpu timed with it)"),
        (
            {"repeats": (replace(found.repeats[0], samples_ms=()),), "latency_ratio": None},
            "not run (too slow: the first inference took 0.0 s)",
        ),
    ):
        other = replace(comparison, results={found.artifact_sha256: replace(found, **change)})
        assert rows_of(artifact, comparisons=(other,))[0].latency_reason == reason


def test_people_see_verdicts_reasons_and_whose_latency_it_is(
    output: Path, tiny_network: DFNet
) -> None:
    rows = rows_of(*pair(output, tiny_network, ratio=0.5))
    stream = io.StringIO()
    print_rows(rows, Console(file=stream, width=200))
    for text in (stream.getvalue(), markdown(rows)):
        assert "failed" in text
        assert "size_ratio 0.5, needed at most 0.35" in text
        assert "latency ratio" in text.lower()
        assert "nothing about a phone" in text
    assert "| fake cpu int8 64x64 | refocus | 30.00 |" in markdown(rows)
