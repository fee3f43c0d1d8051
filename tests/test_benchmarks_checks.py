from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.checks import Checked, check_all
from benchmarks.request import Request
from benchmarks.results import checks_path
from benchmarks.verdict import Outcome
from dfnet.artifact import Artifact
from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.checkpoint import Checkpoint
from dfnet.console import Progress
from dfnet.errors import ArtifactError, CaptureError, MetricError, UnsupportedError
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from dfnet.runner import Device, Output
from dfnet.signature import OUTPUT, Feed
from export.variants import RUNTIMES
from quantize.recipe import find_recipe

from fake_artifacts import CHECKPOINT_SHA256, write_artifact
from fakes import FAKE_ROW, FakeProgram, FakeRunner, FakeRuntime, use_fake_runtime

MakeSet = Callable[..., CaptureSet]
FRAME = Resolution(64, 128)


@dataclass
class Bench:
    """An output folder, a network, and how often its checkpoint was asked for."""

    output: Path
    network: DFNet
    captures: CaptureSet
    calibration: CaptureSet
    checkpoint_sha256: str = CHECKPOINT_SHA256
    loads: list[str] = field(default_factory=list)

    def artifact(self, recipe: str = "fp32", *, padding: int = 0) -> Artifact:
        calibrated = find_recipe(recipe).needs_calibration
        return write_artifact(
            self.output,
            self.network,
            recipe=recipe,
            resolution=FRAME,
            calibration_sha256=self.calibration.sha256 if calibrated else None,
            padding=padding,
        )

    def check(self, *artifacts: Artifact) -> tuple[Checked, ...]:
        return check_all(artifacts, self.request(), Progress())

    def request(self) -> Request:
        return Request(
            folder=self.output,
            log=self.output / "benchmarks.log",
            captures=self.captures,
            checkpoint=self._checkpoint,
            calibration=lambda: self.calibration,
            threads=1,
        )

    def _checkpoint(self) -> Checkpoint:
        self.loads.append(self.checkpoint_sha256)
        return Checkpoint(self.network, self.checkpoint_sha256, {})


@pytest.fixture
def bench(
    tmp_path: Path,
    tiny_network: DFNet,
    make_capture_set: MakeSet,
    monkeypatch: pytest.MonkeyPatch,
) -> Bench:
    use_fake_runtime(monkeypatch)
    (tmp_path / "out").mkdir()
    return Bench(
        tmp_path / "out",
        tiny_network,
        make_capture_set(Split.HELD_OUT, 2),
        make_capture_set(Split.CALIBRATION, 2),
    )


def outcomes(checked: Checked) -> dict[str, Outcome]:
    return {name: verdict.outcome for name, verdict in checked.checks.verdicts.items()}


def test_a_faithful_file_passes_along_the_whole_chain(bench: Bench) -> None:
    (checked,) = bench.check(bench.artifact("int8"))
    assert outcomes(checked) == {"parity": Outcome.PASSED, "quality": Outcome.PASSED}
    hops = [(hop["reference"], hop["candidate"]) for hop in checked.checks.details["hops"]]
    assert hops == [
        ("torch", "fused"),
        ("fused", "int8 graph"),
        ("int8 graph", "fake"),
        ("torch", "fake"),
    ]
    assert checked.checks.device is not None
    assert set(checked.checks.splits) == {"all-in-focus", "refocus"}


@pytest.mark.parametrize(("recipe", "error_db"), [("fp32", 60.0), ("int8", 40.0)])
def test_a_noisy_file_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, recipe: str, error_db: float
) -> None:
    monkeypatch.setattr(FakeRuntime, "error_db", error_db)
    (checked,) = bench.check(bench.artifact(recipe))
    assert outcomes(checked) == {"parity": Outcome.FAILED, "quality": Outcome.FAILED}
    assert checked.checks.figures["residual_psnr_db"] == pytest.approx(error_db, abs=0.5)


@pytest.mark.parametrize("kind", ["nan", "missing", "extra", "shape"])
def test_broken_outputs_fail_with_a_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    infer = FakeRunner.infer

    def broken(self: FakeRunner, feed: Feed) -> Output:
        output = infer(self, feed)[OUTPUT]
        return {
            "nan": {OUTPUT: np.full_like(output, np.nan)},
            "missing": {},
            "extra": {OUTPUT: output, "mask": output},
            "shape": {OUTPUT: output[:, :, 1:]},
        }[kind]

    monkeypatch.setattr(FakeRunner, "infer", broken)
    (checked,) = bench.check(bench.artifact())
    assert outcomes(checked) == {"parity": Outcome.FAILED, "quality": Outcome.FAILED}
    assert checked.checks.verdicts["parity"].reason
    assert checked.checks.figures == {}


def test_what_cannot_run_here_is_not_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRuntime, "cannot_run", lambda self, artifact: "needs macOS")
    (checked,) = bench.check(bench.artifact())
    assert set(outcomes(checked).values()) == {Outcome.NOT_RUN}
    assert checked.checks.verdicts["parity"].reason == "needs macOS"
    assert checked.checks.device is None
    assert bench.loads == []


def test_a_file_that_does_not_load_fails(bench: Bench) -> None:
    artifact = bench.artifact()
    artifact.path.write_bytes(b"not a network")
    (checked,) = bench.check(artifact)
    assert outcomes(checked)["parity"] is Outcome.FAILED
    assert "cannot be loaded" in str(checked.checks.verdicts["parity"].reason)


def test_an_sdk_that_is_missing_is_not_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNTIMES, "fake", replace(FAKE_ROW, location="not_installed:Runtime"))
    (checked,) = bench.check(bench.artifact())
    assert set(outcomes(checked).values()) == {Outcome.NOT_RUN}
    assert "not available here" in str(checked.checks.verdicts["parity"].reason)


def test_a_second_run_reuses_and_loads_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = (bench.artifact(), bench.artifact("int8"))
    first = bench.check(*artifacts)
    record = use_fake_runtime(monkeypatch)
    bench.loads.clear()
    second = bench.check(*artifacts)
    assert [one.reused for one in (*first, *second)] == [False, False, True, True]
    for new, kept in zip(first, second, strict=True):
        assert new.checks.verdicts == kept.checks.verdicts
        assert new.checks.figures == kept.checks.figures
        assert new.checks.splits == kept.checks.splits
    assert (record.loaded, bench.loads) == (0, [])


def test_a_changed_file_is_checked_again_on_kept_references(bench: Bench) -> None:
    bench.check(bench.artifact())
    references = {p: p.stat().st_mtime_ns for p in (bench.output / "references").iterdir()}
    bench.loads.clear()
    (checked,) = bench.check(bench.artifact(padding=8))
    assert not checked.reused
    assert bench.loads == []
    assert {p: p.stat().st_mtime_ns for p in references} == references


def test_other_captures_are_checked_again(bench: Bench, make_capture_set: MakeSet) -> None:
    artifact = bench.artifact()
    bench.check(artifact)
    bench.captures = make_capture_set(Split.HELD_OUT, 3)
    (checked,) = bench.check(artifact)
    assert not checked.reused


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema": 99}'])
def test_damaged_results_are_made_again(bench: Bench, damage: str) -> None:
    artifact = bench.artifact()
    bench.check(artifact)
    checks_path(bench.request().results, artifact).write_text(damage)
    for reference in (bench.output / "references").iterdir():
        reference.write_text(damage)
    (checked,) = bench.check(artifact)
    assert not checked.reused
    assert outcomes(checked)["parity"] is Outcome.PASSED


def test_another_checkpoint_is_an_error(bench: Bench) -> None:
    bench.checkpoint_sha256 = "d" * 64
    with pytest.raises(ArtifactError, match="exported from checkpoint cccccccccccc"):
        bench.check(bench.artifact())


def test_another_calibration_set_is_an_error(bench: Bench, make_capture_set: MakeSet) -> None:
    artifact = bench.artifact("int8")
    bench.calibration = make_capture_set(Split.CALIBRATION, 3)
    with pytest.raises(ArtifactError, match="Give the --calibration"):
        bench.check(artifact)


def with_program(artifact: Artifact, sha256: str) -> Artifact:
    facts = {**artifact.manifest.facts, "program_sha256": sha256}
    return replace(artifact, manifest=replace(artifact.manifest, facts=facts))


def test_a_file_of_another_quantized_program_is_an_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeProgram, "sha256", "d" * 64, raising=False)
    with pytest.raises(ArtifactError, match="got dddddddd.* Export again"):
        bench.check(with_program(bench.artifact("int8"), "e" * 64))
    (checked,) = bench.check(with_program(bench.artifact("int8"), "d" * 64))
    assert outcomes(checked)["parity"] is Outcome.PASSED


def test_calibration_must_share_nothing_with_the_captures_that_judge(bench: Bench) -> None:
    artifact = bench.artifact("int8")
    bench.calibration = bench.captures
    with pytest.raises(CaptureError, match="split"):
        bench.check(artifact)


def test_nothing_to_check_is_an_error(bench: Bench) -> None:
    with pytest.raises(MetricError, match="no artifacts"):
        bench.check()


def several(monkeypatch: pytest.MonkeyPatch, **errors_db: float) -> None:
    """Lets the fake file be executed in several ways, each with its own error in dB."""

    def executions(
        self: FakeRuntime, artifact: Artifact, *, threads: int
    ) -> tuple[Callable[[], FakeRunner], ...]:
        network = torch.load(artifact.path, weights_only=False)
        return tuple(
            partial(
                FakeRunner, network, error_db=error_db, device=Device("evaluator", f"way {name}")
            )
            for name, error_db in errors_db.items()
        )

    monkeypatch.setattr(FakeRuntime, "executions", executions)


def test_of_several_executions_the_worst_counts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    several(monkeypatch, a=130.0, b=110.0, c=120.0)
    (checked,) = bench.check(bench.artifact())
    assert set(outcomes(checked).values()) == {Outcome.PASSED}
    assert checked.checks.device == Device("evaluator", "way b")
    assert checked.checks.figures["psnr_db"] == pytest.approx(110, abs=0.5)
    assert [e.device.name for e in checked.checks.executions] == ["way a", "way b", "way c"]
    assert not checked.checks.ran_on_host


def test_one_execution_that_misses_a_bar_fails_the_file(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    several(monkeypatch, a=130.0, b=60.0)
    (checked,) = bench.check(bench.artifact())
    assert outcomes(checked)["parity"] is Outcome.FAILED
    assert [e.verdict.outcome for e in checked.checks.executions] == [
        Outcome.PASSED,
        Outcome.FAILED,
    ]


def test_an_int8_file_far_from_its_graph_s_loss_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    several(monkeypatch, a=53.0)
    (checked,) = bench.check(bench.artifact("int8"))
    reason = checked.checks.verdicts["parity"].reason
    assert reason is not None
    assert "graph_gap_db" in reason


@pytest.mark.parametrize("recipe", ["sdk-default", "w8a16"])
def test_a_file_quantized_by_its_runtime_has_no_graph_s_loss_to_match(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    several(monkeypatch, a=58.0)
    (checked,) = bench.check(bench.artifact(recipe))
    assert outcomes(checked)["parity"] is Outcome.PASSED
    assert checked.checks.figures["graph_gap_db"] is None


def test_what_an_sdk_quantized_is_held_to_what_quantizing_may_cost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    several(monkeypatch, a=44.0)
    (checked,) = bench.check(bench.artifact("sdk-default"))
    assert outcomes(checked) == {"parity": Outcome.FAILED, "quality": Outcome.FAILED}
    assert "psnr_db 44" in str(checked.checks.verdicts["parity"].reason)


def test_what_nothing_here_can_execute_is_not_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FakeRuntime, artifact: Artifact, *, threads: int) -> tuple[()]:
        raise UnsupportedError("Fake file: got warp_drive, needed something known. Replace it.")

    monkeypatch.setattr(FakeRuntime, "executions", refuse)
    (checked,) = bench.check(bench.artifact())
    assert set(outcomes(checked).values()) == {Outcome.NOT_RUN}
    assert "warp_drive" in str(checked.checks.verdicts["parity"].reason)
