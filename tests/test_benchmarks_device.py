"""Files on devices from the command line: compared, kept, reported; noise and loss are noticed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from fake_phone import PHONE, Phone, a_phone

from android_harness.adb import ConnectionLostError
from android_harness.transport import Transport
from benchmarks.__main__ import main
from benchmarks.baseline import Found, Measured
from benchmarks.device_choice import emulable, runnable
from benchmarks.device_parity import (
    DeviceParity,
    Figures,
    InsnProxy,
    all_device_parities,
    compare_outputs,
    proxy_ratio,
    spread,
)
from benchmarks.device_results import all_device_latencies
from benchmarks.measured import find_measured
from benchmarks.on_devices import run_on
from benchmarks.regression import compare
from benchmarks.rows import build_rows
from benchmarks.selection import read_artifacts
from benchmarks.verdict import Outcome
from dfnet.artifact import Artifact
from dfnet.console import run_command
from dfnet.errors import UnsupportedError
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from dfnet.signature import OUTPUT

from device_jobs import export_tiny, skipping_what_is_not_installed
from fake_adb import SERIAL
from fake_artifacts import write_artifact

pytestmark = pytest.mark.litert


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    with a_phone(tmp_path, monkeypatch) as found:
        yield found


class Desk:
    """An output folder with a tiny LiteRT file, and the command line."""

    def __init__(self, output: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.output, self._capfd = output, capfd
        folder = output / "android" / "tiny"
        folder.mkdir(parents=True)
        self.artifact = export_tiny("litert", folder)

    def device(self, *arguments: str) -> tuple[int, str]:
        from android_harness.bundle import build_bundle

        with skipping_what_is_not_installed():
            build_bundle("x86_64")
        # The bundle of the real output folder, so that it is built once.
        (self.output / "android_harness").symlink_to(Path("artifacts/android_harness").resolve())
        self._capfd.readouterr()
        command = ["device", "--output", str(self.output), "--threads", "1", *arguments]
        with pytest.raises(SystemExit) as exit_info:
            run_command(main, command)
        assert isinstance(exit_info.value.code, int)
        out, err = self._capfd.readouterr()
        return exit_info.value.code, " ".join((out + err).split())

    @property
    def kept(self) -> list[DeviceParity]:
        return list(all_device_parities(self.output / "results"))


@pytest.fixture
def desk(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path / "out", capfd)


def test_a_phone_is_compared_and_reported(desk: Desk, phone: Phone) -> None:
    code, said = desk.device("--parity-only")
    assert code == 0, said
    assert "Google Pixel 8" in said
    (found,) = desk.kept
    assert found.figures is not None
    assert found.figures.max_abs <= 1e-5
    (row,) = [r for r in build_rows([desk.artifact], [], [], [], [found]) if r.runner]
    assert (row.verdict, row.device, row.median_ms) == ("passed", "Google Pixel 8", None)
    assert row.hops[0]["reference"] == "this machine"
    json.dumps(row.to_json(), allow_nan=False)
    assert "Google Pixel 8" in (desk.output / "results" / "report.md").read_text()
    assert phone.is_clean


def test_a_phone_is_timed_too_unless_it_is_not_fit(desk: Desk, phone: Phone) -> None:
    phone.services("fit", "fit")
    code, said = desk.device("--serial", SERIAL, "--seconds", "0.1")
    assert code == 0, said
    (path,) = (desk.output / "results").glob("*.device.json")
    result = json.loads(path.read_text())
    assert (result["device"]["name"], len(result["repeats"])) == ("Google Pixel 8", 3)
    timed = all_device_latencies(desk.output / "results")
    (row,) = [r for r in build_rows([desk.artifact], [], [], timed, desk.kept) if r.runner]
    assert (row.verdict, row.device) == ("passed", "Google Pixel 8")
    assert row.median_ms is not None


def test_two_devices_of_one_name_run_side_by_side_and_are_told_apart(
    desk: Desk, phone: Phone
) -> None:
    phone.server.states["FAKE2"] = "device"
    code, said = desk.device("--device", SERIAL, "--device", "FAKE2", "--parity-only")
    assert code == 0, said
    names = {one.device.name for one in desk.kept}
    assert names == {"Google Pixel 8 FAKE1", "Google Pixel 8 FAKE2"}


def test_two_devices_and_no_choice_is_an_error(desk: Desk, phone: Phone) -> None:
    phone.server.states["FAKE2"] = "device"
    code, said = desk.device("--parity-only")
    assert (code, desk.kept) == (2, [])
    assert "2 Android devices are connected" in said


def test_an_unauthorized_device_is_an_error(desk: Desk, phone: Phone) -> None:
    phone.server.states[SERIAL] = "unauthorized"
    code, said = desk.device("--parity-only")
    assert code == 2
    assert "allow USB debugging" in said


def test_a_noisy_runner_fails(desk: Desk, phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    from android_harness.runner import AndroidRunner, Ran

    honest = AndroidRunner.run

    def noisy(self: AndroidRunner, *words: Any, **asked: Any) -> Ran:
        ran = honest(self, *words, **asked)
        noise = np.random.default_rng(0).normal(0, 1e-3, ran.output[OUTPUT].shape)
        return replace(ran, output={OUTPUT: ran.output[OUTPUT] + noise.astype(np.float32)})

    monkeypatch.setattr(AndroidRunner, "run", noisy)
    code, said = desk.device("--parity-only")
    assert code == 1
    assert "max_abs" in said


def test_results_of_others_are_kept_when_a_device_is_lost(
    desk: Desk, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone.server.states["FAKE2"] = "device"

    def losing(transport: Transport, *words: Any, **asked: Any) -> Any:
        if transport.serial == "FAKE2":
            raise ConnectionLostError("Android device FAKE2: gone")
        return run_on(transport, *words, **asked)

    monkeypatch.setattr("benchmarks.device_command.run_on", losing)
    code, said = desk.device("--device", SERIAL, "--device", "FAKE2", "--parity-only")
    assert (code, len(desk.kept)) == (2, 1), said
    assert "FAKE2: gone" in said


def test_a_device_that_takes_no_files_is_an_error(desk: Desk, phone: Phone) -> None:
    phone.server.faults.refuse_send = "no such luck"
    code, said = desk.device("--parity-only")
    assert (code, desk.kept) == (2, [])
    assert "no such luck" in said
    assert phone.is_clean


def test_the_users_own_runner_must_be_a_program(desk: Desk, phone: Phone, tmp_path: Path) -> None:
    (tmp_path / "runner").write_text("no ELF")
    code, said = desk.device("--parity-only", "--runner-binary", str(tmp_path / "runner"))
    assert code == 2
    assert "got no ELF program" in said


REFERENCE = np.full((1, 3, 50, 40), 0.5, np.float32)
"""2000 pixels."""


def changed(pixels: int, by: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    got = REFERENCE.copy()
    got.reshape(3, -1)[0, :pixels] += by
    return got


@pytest.mark.parametrize(
    ("recipe", "pixels", "by", "outcome"),
    [
        ("fp32", 2000, 0.9e-5, "passed"),
        ("fp32", 1, 2e-5, "failed"),
        ("fp32-app", 1, 1 / 255, "passed"),
        ("fp32-app", 2000, 1 / 255, "failed"),
        ("fp32-app", 1, 2 / 255, "failed"),
        ("int8", 2, 1 / 255, "passed"),
        ("int8", 3, 1 / 255, "failed"),
        ("int8", 1, 2 / 255, "failed"),
        ("int8-full", 0, 0.0, "passed"),
        ("int8-full", 1, 1e-6, "failed"),
        ("fp16", 2000, 1e-3, "passed"),
        ("fp16", 2000, 1e-2, "failed"),
    ],
)
def test_bars_fit_the_arithmetic(
    recipe: str, pixels: int, by: float, outcome: str, tmp_path: Path, tiny_network: DFNet
) -> None:
    artifact = write_artifact(tmp_path, tiny_network, recipe=recipe)
    figures = compare_outputs(REFERENCE, changed(pixels, by))
    assert isinstance(figures, Figures)
    found = a_parity(artifact, figures=figures)
    assert found.verdict(artifact.manifest).outcome == outcome


def test_outputs_that_must_not_be_compared_are_told(tmp_path: Path, tiny_network: DFNet) -> None:
    assert "needed float32 (1, 3, 50, 40)" in str(compare_outputs(REFERENCE, REFERENCE[:, :2]))
    broken = compare_outputs(REFERENCE, changed(2, np.nan))
    assert broken == "output holds 2 values that are not finite"
    artifact = write_artifact(tmp_path, tiny_network)
    failed = a_parity(artifact, figures=None, error=str(broken))
    assert failed.verdict(artifact.manifest).outcome is Outcome.FAILED


def a_parity(artifact: Artifact, **more: Any) -> DeviceParity:
    from benchmarks.device_protocol import DeviceFacts, RunnerFacts

    values: dict[str, Any] = {
        "schema": 1,
        "artifact_sha256": artifact.manifest.artifact_sha256,
        "device": DeviceFacts("emulator", "QEMU", None, "Linux behind adb", "not reported", None),
        "runner": RunnerFacts("litert_runner", "1", "arm64-v8a", "glibc 2.36"),
        "accelerator": "XNNPACK",
        "threads": None,
        "figures": Figures(0.0, 0.0, 200.0),
        "error": None,
        "insn_proxy": None,
    }
    return DeviceParity(**values | more)


def counted(artifact: Artifact, *boots_ms: tuple[float, ...]) -> Found:
    """What a baseline of counted instructions is made of."""
    proxy = InsnProxy("cortex-a76, 1 core", boots_ms)
    (row,) = build_rows([artifact], [], [])
    (found,) = find_measured([row], [], [], [a_parity(artifact, insn_proxy=proxy)])
    return found


BOOTS = ((20.001, 20.002), (20.003, 20.002), (20.001, 20.001))


def test_counted_instructions_have_a_baseline(tmp_path: Path, tiny_network: DFNet) -> None:
    found = counted(write_artifact(tmp_path, tiny_network), *BOOTS)
    measured: Measured = found.measured
    assert found.invalid_reasons == ()
    assert (measured.setting.unit, measured.setting.device_kind) == ("insn_proxy_ms", "emulator")
    assert compare(measured, found).verdict.is_passed


def test_what_else_a_boot_did_does_not_count(tmp_path: Path, tiny_network: DFNet) -> None:
    disturbed = ((20.3, 20.2, 20.001), *BOOTS[1:])
    found = counted(write_artifact(tmp_path, tiny_network), *disturbed)
    assert found.invalid_reasons == ()
    assert found.measured.repeats_ms[0] == (20.001,)


def test_a_slower_file_is_a_regression(tmp_path: Path, tiny_network: DFNet) -> None:
    artifact = write_artifact(tmp_path, tiny_network)
    slowed = counted(artifact, *(tuple(1.06 * ms for ms in boot) for boot in BOOTS))
    regression = compare(counted(artifact, *BOOTS).measured, slowed)
    assert regression.checks["insn_proxy_ms"].outcome is Outcome.FAILED


def test_boots_that_differ_are_invalid(tmp_path: Path, tiny_network: DFNet) -> None:
    found = counted(write_artifact(tmp_path, tiny_network), (20.0, 20.0), (20.1, 20.1))
    assert found.invalid_reasons == ("boots differ by 0.50%, needed at most 0.1%",)


def test_proxies_of_other_machines_have_no_ratio() -> None:
    one, other = InsnProxy("a", ((2.0,),)), InsnProxy("b", ((4.0,),))
    assert proxy_ratio(one, other) is None
    assert proxy_ratio(one, InsnProxy("a", ((4.0,), (4.0,)))) == 0.5
    assert spread(InsnProxy("a", ((4.0,), (4.4,)))) == pytest.approx(0.1)


def test_an_emulated_device_gets_what_it_can_finish(tmp_path: Path, tiny_network: DFNet) -> None:
    large, huge = Resolution(768, 1024), Resolution(3072, 4096)
    kinds = [("fp32", Resolution(64, 64)), ("fp32", large), ("int8", large), ("int8", huge)]
    for recipe, resolution in kinds:
        write_artifact(
            tmp_path, tiny_network, recipe=recipe, resolution=resolution, runtime="litert"
        )
    chosen = runnable(read_artifacts(tmp_path), None, fp16=False)
    said: list[str] = []
    fit = emulable(chosen, say=said.append)
    sizes = {(one.manifest.recipe["name"], str(one.manifest.resolution)) for one in fit}
    assert sizes == {("fp32", "64x64"), ("int8", "768x1024")}
    assert "fp32 768x1024, int8 3072x4096" in said[0]


def test_files_no_native_runner_takes_are_refused(tmp_path: Path, tiny_network: DFNet) -> None:
    write_artifact(tmp_path, tiny_network, runtime="onnx")
    with pytest.raises(UnsupportedError, match="none for Android of executorch or litert"):
        runnable(read_artifacts(tmp_path), None, fp16=False)


def test_options_of_one_runtime_need_one(tmp_path: Path, tiny_network: DFNet) -> None:
    for runtime in ("litert", "executorch"):
        write_artifact(tmp_path, tiny_network, runtime=runtime)
    both = read_artifacts(tmp_path)
    with pytest.raises(UnsupportedError, match="Choose it with --runtime"):
        runnable(both, Path("runner"), fp16=False)
    with pytest.raises(UnsupportedError, match="Add --runtime litert"):
        runnable(both, None, fp16=True)


def test_the_fake_phone_is_this_machine() -> None:
    assert PHONE["ro.product.cpu.abi"] == "x86_64"
