"""Building, reusing, and what an interrupted or impossible build leaves behind."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import export.reuse
from dfnet.artifact import MANIFEST_NAME, read_artifact
from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.checkpoint import Checkpoint
from dfnet.console import Progress
from dfnet.errors import ArtifactError, CalibrationError, DFNetError, UnsupportedError
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from export.build_report import BuildReport
from export.pipeline import BuildRequest, build
from export.plan import Selection
from export.variants import RUNTIMES, RuntimeRow, Variant

from fakes import FakeRuntime, Record, use_fake_runtime

SMALL, WIDE = Resolution(64, 64), Resolution(64, 128)

Build = Callable[..., BuildReport]


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    return use_fake_runtime(monkeypatch)


@pytest.fixture
def calibration(make_capture_set: Callable[..., CaptureSet]) -> CaptureSet:
    return make_capture_set(Split.CALIBRATION, 8)


@pytest.fixture
def request_(
    record: Record, tiny_network: DFNet, calibration: CaptureSet, tmp_path: Path
) -> BuildRequest:
    return BuildRequest(
        selection=Selection("android", (SMALL,)),
        checkpoint=Checkpoint(tiny_network, "c" * 64, {}),
        calibration=calibration,
        output=tmp_path / "artifacts",
    )


@pytest.fixture
def said() -> StringIO:
    return StringIO()


@pytest.fixture
def build_now(request_: BuildRequest, said: StringIO) -> Build:
    """``build_now(**changes)``: builds the request with some fields replaced."""

    def run(**changes: Any) -> BuildReport:
        progress = Progress(console=Console(file=said, width=200))
        return build(replace(request_, **changes), progress)

    return run


def statuses(report: BuildReport) -> list[str]:
    return [row.status for row in report.rows]


def folders(request_: BuildRequest) -> list[str]:
    """Everything in the platform's folder but the log and the lock."""
    root = request_.output / "android"
    return sorted(p.name for p in root.iterdir() if p.name not in ("export.log", ".lock"))


def test_builds_every_usual_variant_with_a_sound_manifest(
    build_now: Build, calibration: CaptureSet
) -> None:
    report = build_now()
    assert statuses(report) == ["built", "built"]
    assert report.succeeded
    for row in report.rows:
        assert row.artifact is not None
        manifest = read_artifact(row.artifact.folder).manifest
        assert manifest == row.artifact.manifest
        assert manifest.recipe["name"] == row.job.variant.recipe
        assert manifest.checkpoint_sha256 == "c" * 64
        assert {"torch", "torchao", "pytest"} == set(manifest.tool_versions)
        assert row.artifact.id.endswith(manifest.build_key[:8])
        assert manifest.facts["quantized_by"] == "fake"
        assert manifest.facts["receptive_field"]["alignment"] == 8
    by_recipe = {row.job.variant.recipe: row.artifact for row in report.rows}
    assert by_recipe["fp32"] is not None
    assert by_recipe["int8"] is not None
    assert by_recipe["fp32"].manifest.calibration_sha256 is None
    assert by_recipe["int8"].manifest.calibration_sha256 == calibration.sha256


def test_each_recipe_is_quantized_once_for_all_resolutions(
    build_now: Build, record: Record
) -> None:
    build_now(selection=Selection("android", (SMALL, WIDE)))
    assert record.quantized == ["fp32", "int8"]
    assert record.lowered == ["fp32 64x64", "fp32 64x128", "int8 64x64", "int8 64x128"]


def test_on_request_variants_need_their_recipe_named(build_now: Build, record: Record) -> None:
    build_now(selection=Selection("android", (SMALL,), recipes=("int8-full",)))
    assert record.quantized == ["int8-full"]


def test_a_rerun_reuses_without_loading_calibrating_or_lowering(
    build_now: Build, record: Record, said: StringIO
) -> None:
    first = build_now()
    before = Record(record.loaded, list(record.quantized), list(record.lowered))
    second = build_now()
    assert statuses(second) == ["reused", "reused"]
    assert [r.artifact for r in second.rows] == [r.artifact for r in first.rows]
    assert record == before
    assert said.getvalue().count(": reused") == 2


def change_checkpoint(request_: BuildRequest, patch: pytest.MonkeyPatch) -> dict[str, object]:
    return {"checkpoint": replace(request_.checkpoint, sha256="d" * 64)}


def change_calibration(request_: BuildRequest, patch: pytest.MonkeyPatch) -> dict[str, object]:
    # Calibration does not decide what a float file holds: only int8 is built again.
    patch.setattr(CaptureSet, "sha256", "e" * 64)
    return {"selection": Selection("android", (SMALL,), recipes=("int8",))}


def change_tool(request_: BuildRequest, patch: pytest.MonkeyPatch) -> dict[str, object]:
    patch.setattr(export.reuse, "version", lambda name: "99")
    return {}


def change_sources(request_: BuildRequest, patch: pytest.MonkeyPatch) -> dict[str, object]:
    patch.setattr(export.reuse, "sources_sha256", lambda runtime: "f" * 64)
    return {}


CHANGES = (change_checkpoint, change_calibration, change_tool, change_sources)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_ingredient_is_built_anew_and_replaces_the_old_file(
    build_now: Build,
    request_: BuildRequest,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[BuildRequest, pytest.MonkeyPatch], dict[str, object]],
) -> None:
    before = set(folders(request_)) if build_now() else set()
    report = build_now(**change(request_, monkeypatch))
    assert set(statuses(report)) == {"built"}
    after = set(folders(request_))
    assert len(after) == len(before) == 2
    assert len(after - before) == len(report.rows)


def test_another_calibration_leaves_float_files_reused(
    build_now: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_now()
    monkeypatch.setattr(CaptureSet, "sha256", "e" * 64)
    assert statuses(build_now()) == ["reused", "built"]


def test_an_altered_file_is_built_again_and_said(build_now: Build, said: StringIO) -> None:
    artifact = build_now().rows[0].artifact
    assert artifact is not None
    artifact.path.write_bytes(b"something else")
    assert statuses(build_now()) == ["built", "reused"]
    assert "was changed after export" in said.getvalue()
    assert "Building it again" in said.getvalue()
    read_artifact(artifact.folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 99}'])
def test_an_unreadable_manifest_is_built_again(build_now: Build, text: str) -> None:
    artifact = build_now().rows[0].artifact
    assert artifact is not None
    (artifact.folder / MANIFEST_NAME).write_text(text)
    assert statuses(build_now()) == ["built", "reused"]


FAILURES = {
    "full disk": OSError(errno.ENOSPC, "No space left on device"),
    "ctrl-c": KeyboardInterrupt(),
    "terminated": SystemExit(143),
    "sdk": RuntimeError("deep inside the SDK"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_build_that_breaks_off_leaves_nothing_half_written_and_loses_nothing(
    build_now: Build,
    request_: BuildRequest,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
) -> None:
    build_now()
    before = folders(request_)
    monkeypatch.setattr(FakeRuntime, "failure", failure)
    expected = ArtifactError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected):
        build_now(selection=Selection("android", (WIDE,)))
    assert folders(request_) == before
    monkeypatch.setattr(FakeRuntime, "failure", None)
    assert statuses(build_now()) == ["reused", "reused"]


def test_a_full_disk_is_one_sentence(build_now: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRuntime, "failure", FAILURES["full disk"])
    with pytest.raises(ArtifactError, match="No space left on device.*--output"):
        build_now()


def test_an_error_of_the_sdk_names_the_log(
    build_now: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeRuntime, "failure", RuntimeError("deep inside the SDK"))
    with pytest.raises(RuntimeError) as caught:
        build_now()
    assert any("export.log" in note for note in caught.value.__notes__)


def test_scratch_folders_of_killed_runs_are_removed(
    build_now: Build, request_: BuildRequest
) -> None:
    build_now()
    before = folders(request_)
    (request_.output / "android" / ".fake-cpu-int8-64x64-0123abcd.xyz").mkdir()
    build_now()
    assert folders(request_) == before


def test_two_exports_do_not_write_to_one_folder(build_now: Build, request_: BuildRequest) -> None:
    build_now()
    with (request_.output / "android" / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ArtifactError, match="another export"):
            build_now()
    assert build_now().succeeded


def test_an_output_that_cannot_be_written_is_told_before_any_work(
    build_now: Build, record: Record, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="cannot be written"):
        build_now(output=tmp_path / "file")
    assert record.loaded == 0


def test_too_few_captures_are_told_before_any_work(
    build_now: Build, record: Record, make_capture_set: Callable[..., CaptureSet]
) -> None:
    with pytest.raises(CalibrationError, match="got 2, needed at least 8"):
        build_now(calibration=make_capture_set(Split.CALIBRATION, 2))
    assert record.loaded == 0


@pytest.fixture
def absent_runtime(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    variants = (Variant("android", "cpu", "fp32"),)
    row = RuntimeRow("fakes:FakeRuntime", ("no-such-distribution",), variants)
    monkeypatch.setitem(RUNTIMES, "absent", row)
    broken = RuntimeRow("no_such_module:Class", ("pytest",), variants)
    monkeypatch.setitem(RUNTIMES, "broken", broken)


@pytest.mark.usefixtures("absent_runtime")
def test_a_runtime_that_is_not_installed_is_a_row_and_not_a_failure(build_now: Build) -> None:
    report = build_now()
    assert statuses(report) == ["built", "built", "not available here", "not available here"]
    assert report.succeeded
    assert "no-such-distribution" in report.rows[2].reason


@pytest.mark.usefixtures("absent_runtime")
def test_nothing_built_at_all_is_no_success(build_now: Build) -> None:
    selection = Selection("android", (SMALL,), runtimes=("absent", "broken"))
    assert not build_now(selection=selection).succeeded


def test_what_a_runtime_cannot_represent_fails_alone(
    build_now: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(
        RUNTIMES["fake"],
        variants=(
            Variant("android", "npu", "fp32"),
            Variant("android", "cpu", "fp32"),
        ),
    )
    monkeypatch.setitem(RUNTIMES, "fake", row)
    report = build_now()
    assert statuses(report) == ["failed", "built"]
    assert "npu" in report.rows[0].reason
    assert not report.succeeded


def test_a_network_that_does_not_fuse_fails_as_a_whole(
    build_now: Build, request_: BuildRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = request_.checkpoint.network
    monkeypatch.setattr(network, "fuse", lambda: "no module", raising=False)
    with pytest.raises(UnsupportedError, match="fuse"):
        build_now()


BAD_SELECTIONS: dict[str, tuple[Callable[[], Selection], str]] = {
    "platform": (lambda: Selection("symbian", (SMALL,)), "ios, android"),  # type: ignore[arg-type]
    "runtime": (lambda: Selection("ios", (SMALL,), runtimes=("tflite",)), "Choose one of fake"),
    "recipe": (lambda: Selection("ios", (SMALL,), recipes=("int4",)), "Choose one of fp32"),
    "no resolution": (lambda: Selection("ios", ()), "--resolution"),
    "odd width": (lambda: Selection("ios", (Resolution(1080, 1918),)), "Nearest: 1080x1920"),
    "nothing": (lambda: Selection("ios", (SMALL,), recipes=("w8a16",)), "There are fake: fp32"),
}


@pytest.mark.parametrize(("make", "advice"), BAD_SELECTIONS.values(), ids=BAD_SELECTIONS)
@pytest.mark.usefixtures("record")
def test_a_bad_choice_lists_the_good_ones(make: Callable[[], Selection], advice: str) -> None:
    with pytest.raises(DFNetError) as caught:
        make()
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sources_of_one_runtime_do_not_count_for_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "export").mkdir()
    for name in ("litert", "coreml", "runtime"):
        (tmp_path / "export" / f"{name}.py").write_text(name)
    monkeypatch.setattr(export.reuse, "_ROOT", tmp_path)
    hashes = [export.reuse.sources_sha256(key) for key in ("litert", "coreml")]
    (tmp_path / "export" / "coreml.py").write_text("changed")
    assert export.reuse.sources_sha256("litert") == hashes[0]
    assert export.reuse.sources_sha256("coreml") != hashes[1]
    (tmp_path / "export" / "runtime.py").write_text("changed")
    assert export.reuse.sources_sha256("litert") != hashes[0]
