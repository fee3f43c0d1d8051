"""The Runner protocol over adb: real native runners behind a fake device, and on the emulator."""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("executorch")

from adbutils import adb_path

from android_harness.adb import start_server
from android_harness.bundle import Bundle, BundleManifest, build_bundle
from android_harness.emulator import Emulator
from android_harness.image import build_image
from android_harness.install import installed
from android_harness.job import PROTOCOL, Runtime
from android_harness.latency import Amount, measure
from android_harness.programs import require_program
from android_harness.runner import AndroidRunner, Settings
from android_harness.toolchain import abi_named, find_toolchain
from android_harness.transfer import push
from android_harness.transport import Completed, Transport
from dfnet.artifact import Artifact, sha256_of
from dfnet.errors import DeviceError, UnsupportedError
from dfnet.runner import Device
from dfnet.signature import OUTPUT
from export import load_runtime

from device_jobs import a_feed, export_tiny, skipping_what_is_not_installed
from fake_adb import SERIAL, FakeAdb, free_port

pytestmark = [pytest.mark.litert, pytest.mark.executorch]

RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
FIXTURES = Path(__file__).parent / "android_fixtures"
PHONE = {
    "ro.product.cpu.abi": "x86_64",
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel 8",
    "ro.build.version.release": "14",
    "ro.build.id": "AP2A.240805.005",
    "ro.hardware": "shiba",
}
SHORT = Amount(repeats=2, warmups=1, runs=3, seconds=0.0)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    with skipping_what_is_not_installed():
        return build_bundle("x86_64")
    raise AssertionError  # not reached: skipped or raised


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[Runtime, Artifact]:
    return {runtime: export_tiny(runtime, tmp_path_factory.mktemp(runtime)) for runtime in RUNTIMES}


class Phone:
    """The fake device with Android's tools as scripts, and its /data/local/tmp."""

    def __init__(self, server: FakeAdb, tools: Path, root: Path) -> None:
        self.server, self.tools, self.root = server, tools, root
        self.transport = Transport(SERIAL, patience_s=5)
        self.properties(PHONE)

    def properties(self, values: dict[str, str]) -> None:
        self.tool("getprop", "\n".join(f"echo '[{n}]: [{v}]'" for n, v in values.items()))

    def services(self, battery: str, thermal: str) -> None:
        places = f"battery) cat {FIXTURES}/battery_{battery}.txt;;"
        places += f"thermalservice) cat {FIXTURES}/thermal_{thermal}.txt;;"
        self.tool("dumpsys", f'case "$1" in {places} esac')
        self.tool("settings", "echo 0")
        self.tool("cmd", "exit 0")

    def tool(self, name: str, script: str) -> None:
        path = self.tools / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    @property
    def is_clean(self) -> bool:
        return list(self.root.iterdir()) == []


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    tools, root = tmp_path / "tools", tmp_path / "device"
    tools.mkdir()
    root.mkdir()
    monkeypatch.setattr("android_harness.transport.ROOT", str(root))
    with FakeAdb(tools) as server:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
        yield Phone(server, tools, root)


@contextmanager
def opened(
    phone: Phone, bundle: Bundle, artifact: Artifact, settings: Settings | None = None
) -> Iterator[AndroidRunner]:
    with (
        installed(phone.transport, bundle) as there,
        AndroidRunner(artifact, there, settings) as runner,
    ):
        yield runner
    assert phone.is_clean


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_device_gives_what_the_host_gives(
    phone: Phone, bundle: Bundle, artifacts: dict[Runtime, Artifact], runtime: Runtime
) -> None:
    feed = a_feed()
    with load_runtime(runtime).open(artifacts[runtime], threads=1) as host:
        needed = host.infer(feed)[OUTPUT]
    with opened(phone, bundle, artifacts[runtime], Settings(threads=1)) as runner:
        assert runner.device == Device("device", "Google Pixel 8")
        assert runner.identity.os_version == "14 (AP2A.240805.005)"
        np.testing.assert_allclose(runner.infer(feed)[OUTPUT], needed, atol=1e-5)
        timings = runner.time(feed, warmup=1, runs=3)
    assert len(timings.samples_ms) == 3
    assert "XNNPACK" in timings.accelerator


def test_the_bundle_and_equal_inputs_go_once(
    phone: Phone, bundle: Bundle, artifacts: dict[Runtime, Artifact]
) -> None:
    feed = a_feed()
    with opened(phone, bundle, artifacts["litert"]) as runner:
        runner.infer(feed)
        before = phone.server.received_bytes
        runner.infer(feed)
        assert phone.server.received_bytes == before


def test_a_connection_lost_while_running_makes_it_run_again(
    phone: Phone, bundle: Bundle, artifacts: dict[Runtime, Artifact]
) -> None:
    feed = a_feed()
    with opened(phone, bundle, artifacts["litert"]) as runner:
        needed = runner.infer(feed)[OUTPUT]
        phone.server.faults.drop_runs = 2
        np.testing.assert_array_equal(runner.infer(feed)[OUTPUT], needed)


def test_a_device_that_comes_back_empty_is_filled_again(
    phone: Phone, bundle: Bundle, artifacts: dict[Runtime, Artifact]
) -> None:
    feed = a_feed()
    with opened(phone, bundle, artifacts["litert"]) as runner:
        needed = runner.infer(feed)[OUTPUT]
        phone.server.faults.drop_runs = 1
        phone.server.on_drop = lambda: subprocess.run(
            ["sh", "-c", f"rm -rf {shlex.quote(str(phone.root))}/*"], check=True
        )
        np.testing.assert_array_equal(runner.infer(feed)[OUTPUT], needed)


def a_script(folder: Path, script: str) -> Bundle:
    """A bundle whose runner is a shell script; ``$1`` is the job's folder."""
    folder.mkdir()
    (folder / "runner.sh").write_text(script)
    manifest = BundleManifest(
        schema=1,
        key="k",
        protocol=PROTOCOL,
        abi="x86_64",
        compiler="sh",
        versions={},
        commands={"litert": ("sh", "./runner.sh")},
        files={"runner.sh": sha256_of(folder / "runner.sh")},
    )
    return Bundle(folder, manifest)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("kill -KILL $$", "the runner died with 137"),
        ("echo out of memory >&2; exit 2", "died with 2 \\(out of memory\\)"),
        ("sleep 60", "took over 1 s and was ended"),
        ("exit 0", "result.json is no file"),
        ("echo '{' > $1/result.json", "cannot be read"),
        ("echo '{\"protocol\": 1}' > $1/result.json", "no field 'runner'"),
    ],
)
def test_a_runner_that_misbehaves_is_an_error_and_the_device_clean(
    phone: Phone, artifacts: dict[Runtime, Artifact], tmp_path: Path, script: str, told: str
) -> None:
    bad = a_script(tmp_path / "bad", script)
    with (
        pytest.raises(DeviceError, match=told),
        opened(phone, bad, artifacts["litert"], Settings(timeout_s=1)) as runner,
    ):
        runner.infer(a_feed())
    assert phone.is_clean


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ("truncate -s -4 $1/output0.bin", "bytes, needed"),
        (
            "printf x | dd conv=notrunc of=$1/output0.bin 2> /dev/null",
            "needed sha256 .*, which the runner wrote",
        ),
    ],
)
def test_an_output_that_was_spoilt_is_refused(
    phone: Phone,
    bundle: Bundle,
    artifacts: dict[Runtime, Artifact],
    tmp_path: Path,
    spoil: str,
    told: str,
) -> None:
    real = shlex.join(bundle.command("litert", "JOB")).removesuffix(" JOB")
    bad = a_script(tmp_path / "bad", f"(cd {bundle.folder.resolve()} && {real} $1) && {spoil}")
    with (
        pytest.raises(DeviceError, match=told),
        opened(phone, bad, artifacts["litert"]) as runner,
    ):
        runner.infer(a_feed())


def test_a_bundle_for_another_abi_is_refused(
    phone: Phone, bundle: Bundle, artifacts: dict[Runtime, Artifact]
) -> None:
    phone.properties(PHONE | {"ro.product.cpu.abi": "arm64-v8a"})
    with (
        pytest.raises(DeviceError, match="got the ABI arm64-v8a, needed x86_64"),
        opened(phone, bundle, artifacts["litert"]),
    ):
        pass


def test_a_runtime_without_a_native_runner_is_refused(
    phone: Phone, bundle: Bundle, artifacts: dict[Runtime, Artifact]
) -> None:
    artifact = artifacts["litert"]
    other = replace(artifact, manifest=replace(artifact.manifest, runtime="onnx"))
    with (
        pytest.raises(UnsupportedError, match="executorch, litert"),
        opened(phone, bundle, other),
    ):
        pass


def test_a_phone_is_timed_in_cold_processes_under_known_conditions(
    phone: Phone, bundle: Bundle, artifacts: dict[Runtime, Artifact]
) -> None:
    phone.services("fit", "fit")
    with opened(phone, bundle, artifacts["litert"], Settings(threads=1)) as runner:
        found = measure(runner, a_feed(), SHORT)
    assert [len(one.times.samples_ms) for one in found.repeats] == [3, 3]
    assert found.fixed_performance
    assert found.peak_memory_mb is not None
    assert set(found.invalid_reasons()) <= {"core clocks not reported"}
    assert sum("fixed-performance" in command for command in phone.server.commands) == 2


def test_a_phone_that_stays_hot_is_timed_and_invalid(
    phone: Phone, bundle: Bundle, artifacts: dict[Runtime, Artifact]
) -> None:
    phone.services("hot", "hot")
    said: list[str] = []
    with opened(phone, bundle, artifacts["litert"]) as runner:
        found = measure(runner, a_feed(), SHORT, patience_s=0, say=said.append)
    assert {"thermal state fair", "battery at 38.9 °C, needed 35 °C"} <= set(
        found.invalid_reasons()
    )


def test_an_emulator_has_no_latency(
    phone: Phone, bundle: Bundle, artifacts: dict[Runtime, Artifact]
) -> None:
    phone.properties(PHONE | {"ro.hardware": "ranchu"})
    with opened(phone, bundle, artifacts["litert"]) as runner:
        assert runner.device.kind == "emulator"
        with pytest.raises(UnsupportedError, match="Time there is not latency"):
            measure(runner, a_feed(), SHORT)


@pytest.fixture(scope="module")
def emulated() -> Iterator[Transport]:
    with skipping_what_is_not_installed():
        find_toolchain(abi_named("arm64-v8a"))
        require_program("qemu-system-aarch64", "qemu-system-arm", purpose="emulate a device")
    with pytest.MonkeyPatch.context() as patch, Emulator(build_image()) as emulator:
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port()))
        start_server().connect(emulator.serial, timeout=60)
        try:
            yield Transport(emulator.serial)
        finally:
            adb("kill-server")


def adb(*words: str) -> None:
    subprocess.run([adb_path(), *words], check=True, capture_output=True)


@contextmanager
def on_emulator(
    emulated: Transport, artifact: Artifact, settings: Settings
) -> Iterator[AndroidRunner]:
    with (
        installed(emulated, build_bundle("arm64-v8a")) as there,
        AndroidRunner(artifact, there, settings) as runner,
    ):
        yield runner
    assert emulated.query(["ls", "/data/local/tmp"]) == ""


def disturb_once(
    emulated: Transport, monkeypatch: pytest.MonkeyPatch, disturbance: Callable[[], object]
) -> Callable[[], bool]:
    """Lets ``disturbance`` happen while the next native runner runs; tells whether it did."""
    run, happened = emulated.run, threading.Event()

    def disturbed(words: list[str], **options: Any) -> Completed:
        if any("_runner" in word for word in words) and not happened.is_set():
            happened.set()
            timer = threading.Timer(0.3, disturbance)
            timer.start()
            try:
                return run(words, **options)
            finally:
                timer.join()
        return run(words, **options)

    monkeypatch.setattr(emulated, "run", disturbed)
    return happened.is_set


@pytest.mark.emulator
@pytest.mark.parametrize("fault", ["none", "adb server killed", "device rebooted"])
def test_the_emulated_device_gives_what_the_host_gives_through(
    fault: str,
    emulated: Transport,
    artifacts: dict[Runtime, Artifact],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults: dict[str, Callable[[], object]] = {
        "none": lambda: None,
        "adb server killed": lambda: adb("kill-server"),
        # The shell that reboots does not live to tell how it ended.
        "device rebooted": lambda: subprocess.run(
            [adb_path(), "-s", emulated.serial, "shell", "(sleep 1; reboot) > /dev/null 2>&1 &"],
            check=False,
            capture_output=True,
        ),
    }
    feed, artifact = a_feed(), artifacts["executorch"]
    with load_runtime("executorch").open(artifact, threads=1) as host:
        needed = host.infer(feed)[OUTPUT]
    with on_emulator(emulated, artifact, Settings(threads=1)) as runner:
        assert runner.device.kind == "emulator"
        happened = disturb_once(emulated, monkeypatch, faults[fault])
        # Long enough for the disturbance to come in between.
        output = runner.run(feed, mode="burst", warmups=0, runs=100).output[OUTPUT]
        np.testing.assert_allclose(output, needed, atol=1e-5)
        assert happened()


@pytest.mark.emulator
def test_a_runner_that_is_killed_or_hangs_on_the_emulated_device_is_an_error(
    emulated: Transport, artifacts: dict[Runtime, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    with on_emulator(emulated, artifacts["executorch"], Settings(timeout_s=3)) as runner:
        with pytest.raises(DeviceError, match="took over 3 s and was ended"):
            runner.run(a_feed(), mode="sustained", warmups=0, runs=1, seconds=600)
        killing = Transport(emulated.serial)
        disturb_once(emulated, monkeypatch, lambda: killing.stop(runner.folder))
        with pytest.raises(DeviceError, match="the runner died with 137"):
            runner.run(a_feed(), mode="sustained", warmups=0, runs=1, seconds=600)


@pytest.mark.emulator
def test_exit_codes_of_the_emulated_device_are_true_however_short_a_command(
    emulated: Transport,
) -> None:
    codes = [emulated.run(["sh", "-c", f"exit {n % 3}"]).code for n in range(60)]
    assert codes == [n % 3 for n in range(60)]
    assert emulated.run(["pgrep", "sleep"]).stdout == ""


@pytest.mark.emulator
def test_a_full_storage_of_the_emulated_device_is_an_error(
    emulated: Transport, tmp_path: Path
) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(1 << 30)
    with emulated.scratch() as folder, pytest.raises(DeviceError, match="of free storage, needed"):
        push(emulated, tmp_path / "huge", f"{folder}/huge")
    assert emulated.query(["ls", "/data/local/tmp"]) == ""
