"""The main job end to end on the shipped captures: real commands, real files, the release bars."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from dfnet.blend import naive_blend
from dfnet.capture import Split, TargetKind
from dfnet.captureset import open_captures
from dfnet.checkpoint import load_factory, load_network
from dfnet.metrics import psnr_db
from dfnet.shipped import CAPTURES
from dfnet.signature import OUTPUT
from dfnet.torch_runner import TorchRunner

REFERENCE = Path("data/checkpoints/reference.safetensors")
FOREIGN = "examples.plain_unet:make", Path("examples/plain_unet.safetensors")


@pytest.fixture(scope="module")
def reference_output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both platforms' files of the reference, as in use: what is quantized once serves both."""
    return tmp_path_factory.mktemp("artifacts")


def run(*arguments: object, codes: tuple[int, ...] = (0,)) -> list[dict[str, Any]]:
    """Runs ``python -m ...`` and returns the rows it prints as JSON."""
    command = [sys.executable, "-m", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in codes, done.stderr
    assert "Failed to load" not in done.stderr, "an SDK's noise reached the console"
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def export_and_verify(
    output: Path, *options: object, codes: tuple[int, ...] = (0,)
) -> dict[tuple[str, str], dict[str, Any]]:
    """fp32 and int8 for Android at 256x256: rows by runtime and recipe."""
    choice = ("--platform", "android", "--recipe", "fp32", "--recipe", "int8")
    where = ("--resolution", "256x256", "--output", output, *options)
    run("export", *choice, *where)
    rows = run("benchmarks", "verify", *choice, *where, codes=codes)
    return {(row["runtime"], row["recipe"]): row for row in rows}


def test_the_reference_beats_the_wide_picture_and_the_naive_blend() -> None:
    runner = TorchRunner(load_network(REFERENCE))
    gains: dict[tuple[bool, bool], list[tuple[float, float]]] = defaultdict(list)
    per_capture: dict[str, list[float]] = defaultdict(list)
    for capture in open_captures(CAPTURES / Split.HELD_OUT):
        for target in capture.targets:
            assert target.truth is not None
            reached = psnr_db(target.truth, runner.infer(capture.feed(target))[OUTPUT])
            over_blend = reached - psnr_db(target.truth, naive_blend(capture, target))
            measured = capture.id.startswith("motorcycle")
            sharp = target.kind is TargetKind.ALL_IN_FOCUS
            over_wide = reached - psnr_db(target.truth, capture.wide)
            gains[measured, sharp].append((over_wide, over_blend))
            per_capture[capture.id].append(over_blend)
    bars = {(False, True): 2.5, (False, False): 2.2, (True, True): 0.9, (True, False): 1.5}
    for group, bar in bars.items():
        over_wide, over_blend = map(fmean, zip(*gains[group], strict=True))
        assert over_wide >= bar, group
        assert over_blend > 0, group
    assert sum(fmean(values) > 0 for values in per_capture.values()) >= 11
    assert len(per_capture) == 12
    assert_readme_says({group: fmean(gain for gain, _ in pairs) for group, pairs in gains.items()})


def assert_readme_says(gains: dict[tuple[bool, bool], float]) -> None:
    """The README's sentence on the network, and what training it took."""
    curve = json.loads(REFERENCE.with_name("reference-curve.json").read_text())
    minutes = curve["validation"][-1]["cpu_seconds"] / 60
    rendered = f"{gains[False, True]:.1f} dB all-in-focus and {gains[False, False]:.1f} dB refocus"
    measured = f"{gains[True, True]:.1f} and {gains[True, False]:.1f} dB on measured depth"
    readme = " ".join(Path("README.md").read_text().split())
    for sentence in (f"{minutes:.0f} CPU-minutes", rendered, measured):
        assert sentence in readme


@pytest.mark.litert
@pytest.mark.executorch
@pytest.mark.onnx
def test_int8_of_the_reference_clears_the_release_bars(reference_output: Path) -> None:
    rows = export_and_verify(reference_output)
    assert {runtime for runtime, _ in rows} == {"litert", "executorch", "onnx"}
    for (runtime, recipe), row in rows.items():
        assert row["verdict"] == "passed", (runtime, recipe, row["reason"])
        assert row["undelegated_convolutions"] == 0
        if recipe == "int8":
            assert row["drop_db"] <= 0.02
            assert row["gain_kept"] >= 0.99
            assert row["psnr_db"] >= 48
            assert row["size_ratio"] <= 0.35
        else:
            assert row["graph_worst_psnr_db"] >= 100


@pytest.mark.coreml
@pytest.mark.executorch
def test_core_ml_files_of_the_reference_clear_the_release_bars(reference_output: Path) -> None:
    choice = ("--platform", "ios", "--resolution", "256x256", "--output", reference_output)
    recipes = ("--recipe", "fp32", "--recipe", "fp16", "--recipe", "int8")
    run("export", *choice, *recipes)
    rows = run("benchmarks", "verify", *choice, *recipes)
    found = {(row["runtime"], row["recipe"]): row for row in rows}
    assert found.keys() == {
        ("coreml", "fp32"),
        ("coreml", "fp16"),
        ("coreml", "int8"),
        ("executorch", "fp16"),
        ("executorch", "int8"),
    }
    for key, row in found.items():
        assert row["verdict"] == "passed", (key, row["reason"])
        assert row["device_kind"] == "evaluator"
        assert "reference evaluator" in row["device"]
        assert row["latency_reason"] == "not run (needs macOS)"
        assert row["median_ms"] is None
    assert found["coreml", "fp32"]["graph_worst_psnr_db"] >= 100
    for (_, recipe), row in found.items():
        if recipe == "fp16":
            assert row["worst_psnr_db"] >= 60
        if recipe == "int8":
            assert row["graph_gap_db"] <= 0.5
            assert row["drop_db"] <= 0.02


@pytest.mark.parametrize(
    "runtime",
    [
        pytest.param("litert", marks=pytest.mark.litert),
        pytest.param("executorch", marks=[pytest.mark.executorch, pytest.mark.slow]),
        pytest.param("onnx", marks=[pytest.mark.onnx, pytest.mark.slow]),
    ],
)
def test_a_network_written_differently_goes_the_same_way(runtime: str, tmp_path: Path) -> None:
    factory, weights = FOREIGN
    # Eight bits cost this network more than the release bars allow, and ONNX Runtime computes its
    # transposed convolutions in float: a missed bar (1) is a result, an error (2) is not.
    options = ("--factory", factory, "--weights", weights, "--runtime", runtime)
    rows = export_and_verify(tmp_path, *options, codes=(0, 1))
    assert rows.keys() == {(runtime, "fp32"), (runtime, "int8")}
    for (_, recipe), row in rows.items():
        assert row["psnr_db"] >= 45, recipe
        assert row["gain_kept"] >= 0.9
        assert row["delegate_calls"] is not None


def test_the_foreign_network_beats_the_wide_picture() -> None:
    runner = TorchRunner(load_factory(*FOREIGN).network)
    gains = []
    for capture in open_captures(CAPTURES / Split.HELD_OUT):
        target = capture.targets[0]
        assert target.truth is not None
        reached = psnr_db(target.truth, runner.infer(capture.feed(target))[OUTPUT])
        gains.append(reached - psnr_db(target.truth, capture.wide))
    assert fmean(gains) > 1.0
