from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import main
from benchmarks.two_runs import read_report
from dfnet.artifact import read_artifact
from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.checkpoint import load_checkpoint, save_checkpoint
from dfnet.console import run_command
from dfnet.model import DFNet
from dfnet.runner import Device

from device_files import a_result, write
from fake_artifacts import write_artifact
from fakes import FakeRuntime, use_fake_runtime

MakeSet = Callable[..., CaptureSet]


class Desk:
    """An output folder with artifacts, and the command line to judge them."""

    def __init__(self, root: Path, network: DFNet, make_capture_set: MakeSet) -> None:
        self.output = root / "out"
        self.checkpoint = root / "network.safetensors"
        save_checkpoint(network, self.checkpoint, training={})
        self._network = network
        self.captures = make_capture_set(Split.HELD_OUT, 2)
        self.calibration = make_capture_set(Split.CALIBRATION, 2)

    def write(self, recipe: str = "fp32", *, platform: str = "android", padding: int = 0) -> Path:
        return write_artifact(
            self.output,
            self._network,
            recipe=recipe,
            platform=platform,
            padding=padding,
            checkpoint_sha256=load_checkpoint(self.checkpoint).sha256,
            calibration_sha256=self.calibration.sha256 if recipe == "int8" else None,
        ).path

    def run(self, *arguments: str) -> int:
        with pytest.raises(SystemExit) as exit_info:
            run_command(main, [*arguments, "--output", str(self.output)])
        assert isinstance(exit_info.value.code, int)
        return exit_info.value.code

    def judge(self, command: str, *arguments: str) -> int:
        given: Sequence[str | Path] = (
            "--captures",
            self.captures.root,
            "--checkpoint",
            self.checkpoint,
            "--calibration",
            self.calibration.root,
        )
        return self.run(command, *map(str, given), "--threads", "1", *arguments)


@pytest.fixture
def desk(
    tmp_path: Path,
    tiny_network: DFNet,
    make_capture_set: MakeSet,
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    use_fake_runtime(monkeypatch)
    return Desk(tmp_path, tiny_network, make_capture_set)


@pytest.fixture
def not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRuntime, "cannot_run", lambda self, artifact: "needs macOS")


def test_verify_passes_then_reuses(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    desk.write()
    assert desk.judge("verify", "--platform", "android") == 0
    assert "passed" in capfd.readouterr().out
    assert desk.judge("verify", "--platform", "android") == 0
    captured = capfd.readouterr()
    assert "Reused 1 of 1 checks" in captured.err
    assert "Reused 1 of 1 latency comparisons" in captured.err
    assert "BUILT, NOT VERIFIED" not in captured.err


def test_a_missed_bar_exits_1(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write()
    monkeypatch.setattr(FakeRuntime, "error_db", 60.0)
    assert desk.judge("verify", "--platform", "android") == 1
    assert desk.judge("parity") == 1


@pytest.mark.usefixtures("not_here")
def test_not_run_is_built_but_not_verified(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    desk.write(platform="ios")
    assert desk.judge("verify", "--platform", "ios") == 0
    assert "BUILT, NOT VERIFIED: 1 cells" in capfd.readouterr().err
    assert desk.judge("parity", "--platform", "ios") == 1


def test_parity_as_junit_is_never_green_for_what_did_not_run(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counts(code: int) -> tuple[int, int, int]:
        assert desk.judge("parity", "--junit", str(tmp_path / "x.xml")) == code
        root = ElementTree.parse(tmp_path / "x.xml").getroot()
        cases = list(root.iter("testcase"))
        return len(cases), len(list(root.iter("failure"))), len(list(root.iter("error")))

    desk.write()
    cases, failures, errors = counts(0)
    assert cases >= 2
    assert (failures, errors) == (0, 0)
    with monkeypatch.context() as patch:
        patch.setattr(FakeRuntime, "error_db", 60.0)
        desk.write(padding=1)
        assert counts(1)[1] >= 1
    monkeypatch.setattr(FakeRuntime, "cannot_run", lambda self, artifact: "needs macOS")
    desk.write(padding=2)
    assert counts(1)[1:] == (0, 2)


def test_every_judgement_keeps_the_report_that_compare_reads(desk: Desk) -> None:
    desk.write()
    assert desk.judge("verify", "--platform", "android") == 0
    (row,) = read_report(desk.output).values()
    assert row.verdict == "passed"
    assert row.captures_sha256 == desk.captures.sha256
    assert row.machine


def test_latencies_from_devices_neither_fail_parity_nor_count_as_unverified(
    desk: Desk, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    artifact = read_artifact(desk.write().parent)
    result = write(tmp_path / "result.json", a_result(artifact))
    assert desk.run("import", str(result)) == 0
    assert desk.judge("parity") == 0
    assert desk.judge("verify", "--platform", "android") == 0
    captured = capfd.readouterr()
    assert "iPhone" in captured.out
    assert "BUILT, NOT VERIFIED" not in captured.err


@pytest.mark.usefixtures("not_here")
def test_latency_of_nothing_that_runs_here_is_an_error(desk: Desk) -> None:
    desk.write()
    captures = ("--captures", str(desk.captures.root))
    assert desk.run("latency", "--protocol", "quick", *captures) == 2


def test_no_artifacts_are_an_error(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    assert desk.judge("parity") == 2
    assert "make export-android" in capfd.readouterr().err
    desk.write()
    assert desk.judge("parity", "--recipe", "int8") == 2
    assert "there are fake-cpu-fp32-64x64" in capfd.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--platform", "windows"), "ios, android"),
        (("--runtime", "tensorrt"), "fake"),
        (("--recipe", "int4"), "int8"),
        (("--resolution", "huge"), "preview"),
        (("--device", "Nokia 3310"), "Pixel"),
        (("--factory", "a:b"), "--factory"),
    ],
)
def test_unknown_choices_exit_2_with_those_there_are(
    desk: Desk, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    desk.write()
    assert desk.judge("parity", *arguments) == 2
    assert words in capfd.readouterr().err


@pytest.mark.parametrize("split", [Split.CALIBRATION, Split.TRAINING])
def test_captures_a_network_was_made_with_cannot_judge_it(
    desk: Desk, make_capture_set: MakeSet, split: Split, capfd: pytest.CaptureFixture[str]
) -> None:
    desk.write()
    desk.captures = make_capture_set(split, 2)
    assert desk.judge("parity") == 2
    assert f"got the split {split}" in capfd.readouterr().err


def test_an_altered_artifact_is_an_error(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    path = desk.write()
    path.write_bytes(path.read_bytes() + b"!")
    assert desk.run("report") == 2
    assert "changed after export" in capfd.readouterr().err.replace("\n", " ")


def test_report_joins_what_is_on_disk(
    desk: Desk, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.groups.time_all", lambda *_: ())
    desk.write()
    desk.judge("parity")
    desk.write("int8", padding=8)
    capfd.readouterr()
    assert desk.run("report", "--json") == 0
    rows = json.loads(capfd.readouterr().out)
    by_recipe = {row["recipe"]: row for row in rows}
    assert by_recipe["fp32"]["verdict"] == "passed"
    assert by_recipe["fp32"]["device"] == Device("host", "fake").name
    assert by_recipe["int8"]["verdict"] in ("not run", "failed")
    assert by_recipe["int8"]["psnr_db"] is None
    assert (desk.output / "results" / "report.md").exists()


def test_rows_as_json_are_all_of_standard_output(
    desk: Desk, capfd: pytest.CaptureFixture[str]
) -> None:
    desk.write()
    desk.write("int8", padding=8)
    # The fake int8 file is as large as the fp32 one: its size bar is missed.
    assert desk.judge("verify", "--platform", "android", "--json") == 1
    rows = json.loads(capfd.readouterr().out)
    assert [row["recipe"] for row in rows] == ["fp32", "int8"]
    assert {row["latency_ratio"] for row in rows} == {1.0}


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, benchmarks.__main__; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
