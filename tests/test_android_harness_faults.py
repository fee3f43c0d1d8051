"""Whatever goes wrong on a real emulated device ends in a right verdict and a clean device."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("executorch")

from adbutils import adb_path

from android_harness import sync
from android_harness.adb import ConnectionLostError, choose_serial
from android_harness.bundle import Bundle, build_bundle
from android_harness.image import build_image
from android_harness.install import installed
from android_harness.job import Runtime
from android_harness.programs import require_program
from android_harness.runner import AndroidRunner, Settings
from android_harness.target import emulated
from android_harness.toolchain import abi_named, find_toolchain
from android_harness.transfer import push
from android_harness.transport import ROOT, Completed, Transport
from dfnet.artifact import Artifact
from dfnet.errors import DeviceError
from dfnet.signature import OUTPUT
from export import load_runtime

from device_jobs import a_feed, export_tiny, skipping_what_is_not_installed
from fake_adb import free_port

pytestmark = [pytest.mark.emulator, pytest.mark.litert, pytest.mark.executorch]
slow = pytest.mark.slow

RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
FOREVER: dict[str, Any] = {"mode": "sustained", "warmups": 0, "runs": 1, "seconds": 600}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[Runtime, Artifact]:
    return {runtime: export_tiny(runtime, tmp_path_factory.mktemp(runtime)) for runtime in RUNTIMES}


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    with skipping_what_is_not_installed():
        find_toolchain(abi_named("arm64-v8a"))
        require_program("qemu-system-aarch64", "qemu-system-arm", purpose="emulate a device")
    return build_bundle("arm64-v8a")


@pytest.fixture(scope="module")
def adb_server() -> Iterator[None]:
    """A server of our own, so that the user's does not see what happens to this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port()))
        adb("start-server")
        yield
        adb("kill-server")


@pytest.fixture(scope="module")
def device(bundle: Bundle, adb_server: None) -> Iterator[Transport]:
    with emulated(build_image()) as transport:
        yield transport


def adb(*words: str) -> None:
    subprocess.run([adb_path(), *words], check=True, capture_output=True)


@contextmanager
def running(
    device: Transport, bundle: Bundle, artifact: Artifact, settings: Settings | None = None
) -> Iterator[AndroidRunner]:
    with (
        installed(device, bundle) as there,
        AndroidRunner(artifact, there, settings or Settings(threads=1)) as runner,
    ):
        yield runner


def require_clean(device: Transport) -> None:
    assert device.query(["ls", ROOT]) == ""
    assert device.run(["pgrep", "-f", "[_]runner"]).stdout == ""


def disturb(
    device: Transport, patch: pytest.MonkeyPatch, disturbance: Callable[[], object]
) -> Callable[[], bool]:
    """Lets ``disturbance`` happen while the next native runner runs; tells whether it did."""
    run, happened = device.run, threading.Event()

    def disturbed(words: list[str], **options: Any) -> Completed:
        if any("_runner" in word for word in words) and not happened.is_set():
            happened.set()
            timer = threading.Timer(0.5, disturbance)
            timer.start()
            try:
                return run(words, **options)
            finally:
                timer.join()
        return run(words, **options)

    patch.setattr(device, "run", disturbed)
    return happened.is_set


def reboot(device: Transport) -> None:
    # The shell that reboots does not live to tell how it ended.
    command = [adb_path(), "-s", device.serial, "shell", "(sleep 1; reboot) > /dev/null 2>&1 &"]
    subprocess.run(command, check=False, capture_output=True)


def corrupt(device: Transport, path: str) -> None:
    script = f"printf x | dd conv=notrunc bs=1 seek=2000 of={path}"
    assert device.run(["sh", "-c", script]).code == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_file_gives_there_what_it_gives_here(
    runtime: Runtime, device: Transport, bundle: Bundle, artifacts: dict[Runtime, Artifact]
) -> None:
    feed, artifact = a_feed(), artifacts[runtime]
    with load_runtime(runtime).open(artifact, threads=1) as host:
        needed = host.infer(feed)[OUTPUT]
    with running(device, bundle, artifact) as runner:
        assert runner.device.kind == "emulator"
        np.testing.assert_allclose(runner.infer(feed)[OUTPUT], needed, atol=1e-5)
    require_clean(device)


@pytest.mark.parametrize("fault", ["adb server killed", pytest.param("rebooted", marks=slow)])
def test_a_run_survives(
    fault: str,
    device: Transport,
    bundle: Bundle,
    artifacts: dict[Runtime, Artifact],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults = {"adb server killed": lambda: adb("kill-server"), "rebooted": lambda: reboot(device)}
    feed = a_feed()
    with running(device, bundle, artifacts["executorch"]) as runner:
        needed = runner.infer(feed)[OUTPUT]
        happened = disturb(device, monkeypatch, faults[fault])
        # Long enough for the disturbance to come in between.
        output = runner.run(feed, mode="burst", warmups=0, runs=200).output[OUTPUT]
        assert happened()
    np.testing.assert_array_equal(output, needed)
    require_clean(device)


def test_a_runner_that_hangs_is_ended(
    device: Transport, bundle: Bundle, artifacts: dict[Runtime, Artifact]
) -> None:
    settings = Settings(threads=1, timeout_s=3)
    with (
        running(device, bundle, artifacts["executorch"], settings) as runner,
        pytest.raises(DeviceError, match="took over 3 s and was ended"),
    ):
        runner.run(a_feed(), **FOREVER)
    require_clean(device)


def test_a_runner_that_is_killed_is_an_error(
    device: Transport,
    bundle: Bundle,
    artifacts: dict[Runtime, Artifact],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killing = Transport(device.serial)
    with running(device, bundle, artifacts["executorch"]) as runner:
        disturb(device, monkeypatch, lambda: killing.stop(runner.folder))
        with pytest.raises(DeviceError, match="the runner died with 137"):
            runner.run(a_feed(), **FOREVER)
    require_clean(device)


@slow
def test_a_connection_that_drops_while_a_file_is_sent_is_taken_up_again(
    device: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.random.default_rng(0).bytes(40 << 20)
    (tmp_path / "big").write_bytes(data)
    send, dropped = sync.send_block, list[threading.Timer]()

    def dropping(*words: Any) -> None:
        if len(dropped) < 2:
            dropped.append(threading.Timer(0.1, lambda: adb("kill-server")))
            dropped[-1].start()
        send(*words)

    monkeypatch.setattr("android_harness.transfer.send_block", dropping)
    with device.scratch() as folder:
        assert push(device, tmp_path / "big", f"{folder}/big")
        for timer in dropped:
            timer.join()
        assert len(dropped) == 2
    require_clean(device)


@slow
def test_an_artifact_that_was_corrupted_there_is_refused(
    device: Transport, bundle: Bundle, artifacts: dict[Runtime, Artifact]
) -> None:
    with running(device, bundle, artifacts["litert"]) as runner:
        corrupt(device, f"{runner.folder}/model.bin")
        with pytest.raises(DeviceError, match="failed at model: .*sha256"):
            runner.infer(a_feed())
    require_clean(device)


@slow
def test_a_library_that_was_corrupted_there_is_an_error(
    device: Transport, bundle: Bundle, artifacts: dict[Runtime, Artifact]
) -> None:
    with (
        installed(device, bundle) as there,
        AndroidRunner(artifacts["litert"], there) as runner,
    ):
        device.query(["sh", "-c", f"echo > {there.folder}/lib/libLiteRt.so"])
        with pytest.raises(DeviceError, match="failed at load|the runner died"):
            runner.infer(a_feed())
    require_clean(device)


@slow
def test_an_output_that_was_truncated_is_refused(
    device: Transport,
    bundle: Bundle,
    artifacts: dict[Runtime, Artifact],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = device.run
    with running(device, bundle, artifacts["litert"]) as runner:

        def truncating(words: list[str], **options: Any) -> Completed:
            done = run(words, **options)
            if any("_runner" in word for word in words):
                path = f"{runner.folder}/output0.bin"
                run(["sh", "-c", f"cut -b1-100 {path} > {path}2; mv {path}2 {path}"])
            return done

        monkeypatch.setattr(device, "run", truncating)
        with pytest.raises(DeviceError, match=r"got \d+ bytes, needed|needed sha256"):
            runner.infer(a_feed())
    monkeypatch.undo()
    require_clean(device)


@slow
def test_a_storage_that_is_full_before_a_file_is_sent_is_an_error(
    device: Transport, tmp_path: Path
) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(1 << 30)
    with device.scratch() as folder, pytest.raises(DeviceError, match="of free storage, needed"):
        push(device, tmp_path / "huge", f"{folder}/huge")
    require_clean(device)


@slow
def test_a_storage_that_fills_up_before_outputs_are_written_is_an_error(
    device: Transport,
    bundle: Bundle,
    artifacts: dict[Runtime, Artifact],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = device.run
    with running(device, bundle, artifacts["litert"]) as runner, device.scratch("fill") as filled:

        def filling(words: list[str], **options: Any) -> Completed:
            if any("_runner" in word for word in words):
                run(["sh", "-c", f"cat /dev/zero > {filled}/zeros"])
            return run(words, **options)

        monkeypatch.setattr(device, "run", filling)
        with pytest.raises(DeviceError, match="failed at outputs|died with 2"):
            runner.infer(a_feed())
    monkeypatch.undo()
    require_clean(device)


@slow
def test_of_two_devices_one_must_be_chosen(device: Transport) -> None:
    with emulated(build_image()) as other:
        with pytest.raises(DeviceError, match="2 Android devices are connected .*--serial"):
            choose_serial(None)
        assert choose_serial(other.serial) == other.serial
    assert choose_serial(None) == device.serial


@slow
def test_a_device_that_is_gone_for_good_is_told_and_the_others_stay_clean(
    device: Transport,
    bundle: Bundle,
    artifacts: dict[Runtime, Artifact],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        pytest.raises(ConnectionLostError, match="needed it back"),
        emulated(build_image()) as doomed,
    ):
        lost = Transport(doomed.serial, timeout_s=5, patience_s=3)
        with running(lost, bundle, artifacts["litert"]) as runner:
            power = "sync; echo o > /proc/sysrq-trigger"
            off = [adb_path(), "-s", doomed.serial, "shell", power]
            disturb(lost, monkeypatch, lambda: subprocess.run(off, check=False, timeout=10))
            runner.run(a_feed(), **FOREVER)
    require_clean(device)


@slow
def test_exit_codes_of_the_emulated_device_are_true_however_short_a_command(
    device: Transport,
) -> None:
    codes = [device.run(["sh", "-c", f"exit {n % 3}"]).code for n in range(60)]
    assert codes == [n % 3 for n in range(60)]
