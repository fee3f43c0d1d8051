from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from android_harness.adb_greeting import adbd_answers
from android_harness.boot import DEFAULT_PORT
from android_harness.bundle import Bundle, build_bundle
from android_harness.emulator import Emulator, start_detached, stop_all
from android_harness.image import Image, ImageManifest, build_image
from android_harness.initramfs import write_initramfs
from android_harness.job import Job, Runtime
from android_harness.job_result import JobResult, read_result
from android_harness.machine import Hardware, Record, records, started_at, write_record
from android_harness.programs import require_program
from android_harness.toolchain import abi_named, find_toolchain
from dfnet.artifact import Artifact
from dfnet.errors import DeviceError, MissingDependencyError

from device_jobs import (
    MODEL,
    a_feed,
    export_tiny,
    read_output,
    run_here,
    skipping_what_is_not_installed,
    write_job,
)

RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
WORK = "/data/local/tmp/test"


def a_broken_image(folder: Path) -> Image:
    """A kernel that is none."""
    for name in ("kernel", "initramfs"):
        (folder / name).write_bytes(b"nothing")
    return Image(folder, ImageManifest(1, "", (), {}))


def test_a_missing_qemu_names_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="apt-get install .*qemu-system-arm"):
        Emulator(a_broken_image(tmp_path)).__enter__()


def test_missing_apt_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="Program apt-get"):
        build_image(output=tmp_path)


def test_ports_that_adb_searches_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=f"Try {DEFAULT_PORT}"):
        Emulator(a_broken_image(tmp_path), port=5555).__enter__()


def test_a_taken_port_is_an_error(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(DeviceError, match="cannot be used"):
            Emulator(a_broken_image(tmp_path), port=other.getsockname()[1]).__enter__()


def test_impossible_hardware_is_refused() -> None:
    with pytest.raises(DeviceError, match="less storage than memory"):
        Hardware(memory_mb=256, storage_mb=256)


def test_an_unstarted_emulator_has_no_serial(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="not started"):
        _ = Emulator(a_broken_image(tmp_path)).serial


def test_stopping_what_does_not_run_is_an_error(tmp_path: Path) -> None:
    assert stop_all(tmp_path) == []
    with pytest.raises(DeviceError, match="does not run"):
        stop_all(tmp_path, port=DEFAULT_PORT)


def test_a_record_of_another_process_is_never_stopped(tmp_path: Path) -> None:
    started = started_at(os.getpid())
    assert started is not None
    write_record(tmp_path, Record(os.getpid(), started - 1, DEFAULT_PORT, False))
    assert stop_all(tmp_path) == []
    assert not list(tmp_path.glob("*.json"))


def test_an_open_port_is_no_adbd() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert not adbd_answers(other.getsockname()[1], timeout_s=0.2)


def test_equal_folders_give_equal_archives(tmp_path: Path) -> None:
    for name in ("one", "two"):
        root = tmp_path / name
        (root / "bin").mkdir(parents=True)
        (root / "bin/tool").write_text("text")
        (root / "bin/link").symlink_to("tool")
        write_initramfs(root, tmp_path / f"{name}.cpio")
        time.sleep(0.01)
    assert (tmp_path / "one.cpio").read_bytes() == (tmp_path / "two.cpio").read_bytes()


pytest.importorskip("adbutils")


def emulated(test: Callable[..., None]) -> Callable[..., None]:
    """One of the long tests that boot a device."""
    marked: Callable[..., None] = pytest.mark.slow(pytest.mark.emulator(test))
    return marked


@pytest.fixture(scope="module")
def image() -> Image:
    with skipping_what_is_not_installed():
        find_toolchain(abi_named("arm64-v8a"))
        require_program("qemu-system-aarch64", "qemu-system-arm", purpose="emulate a device")
        return build_image()
    raise AssertionError  # not reached: skipped or raised


@pytest.fixture(scope="module")
def emulator(image: Image) -> Iterator[Emulator]:
    with Emulator(image) as running:
        yield running


@pytest.fixture(scope="module")
def adb_server() -> Iterator[None]:
    """A server of our own, so that whatever happens to the user's does not matter."""
    import adbutils

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port()))
        # adbutils would start it, too, but first leaves a refused connection open.
        subprocess.run([adbutils.adb_path(), "start-server"], check=True, capture_output=True)
        yield
        subprocess.run([adbutils.adb_path(), "kill-server"], check=True, capture_output=True)


@pytest.fixture(scope="module")
def device(emulator: Emulator, adb_server: None) -> Iterator[Any]:
    yield from connected(emulator.serial)


def connected(serial: str) -> Iterator[Any]:
    import adbutils

    client = adbutils.AdbClient()
    client.connect(serial, timeout=60)
    try:
        yield client.device(serial)
    finally:
        client.disconnect(serial)


def shell(device: Any, command: str) -> tuple[int, str]:
    ended = device.shell2(command, v2=True)
    return ended.returncode, ended.stdout.strip()


@pytest.fixture(scope="module")
def bundle(device: Any) -> Bundle:
    """The runners, already on the device."""
    built = build_bundle("arm64-v8a")
    push_bundle(device, built)
    return built


def push_bundle(device: Any, bundle: Bundle) -> None:
    shell(device, f"mkdir -p {WORK}/bundle/lib")
    for name in bundle.manifest.files:
        device.sync.push(str(bundle.folder / name), f"{WORK}/bundle/{name}", 0o755)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[Runtime, Artifact]:
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("executorch")
    return {runtime: export_tiny(runtime, tmp_path_factory.mktemp(runtime)) for runtime in RUNTIMES}


def run_there(device: Any, bundle: Bundle, job: Job, folder: Path) -> tuple[int, JobResult]:
    """Pushes the job in ``folder``, runs it, and pulls result and outputs back over it."""
    there = f"{WORK}/job"
    shell(device, f"rm -rf {there}; mkdir -p {there}")
    for name in ("job.json", MODEL, *(one.file for one in job.inputs)):
        device.sync.push(str(folder / name), f"{there}/{name}")
    command = shlex.join(bundle.command(job.runtime, there))
    code, _ = shell(device, f"cd {WORK}/bundle && {command}")
    outputs = (one.file for one in job.outputs) if code == 0 else ()
    for name in ("result.json", *outputs):
        device.sync.pull(f"{there}/{name}", str(folder / name))
    return code, read_result(folder)


@emulated
def test_it_is_an_arm64_device_behind_adb(emulator: Emulator, device: Any) -> None:
    assert shell(device, "uname -m") == (0, "aarch64")
    assert shell(device, "getprop ro.product.cpu.abi") == (0, "arm64-v8a")
    assert shell(device, "exit 7") == (7, "")
    assert {"asimddp", "fphp"} <= set(shell(device, "cat /proc/cpuinfo")[1].split())
    assert "device up" in emulator.console()


@emulated
def test_every_tool_is_there(device: Any) -> None:
    names = (Path("android_harness/device/tools")).read_text().split()
    known = set(shell(device, "$(readlink -f /bin/ls)")[1].split())
    assert set(names) <= known
    assert shell(device, "expr 2 + 3 | tr 5 6") == (0, "6")


@emulated
def test_it_listens_on_loopback_alone_and_has_no_way_out(emulator: Emulator, device: Any) -> None:
    table = Path("/proc/net/tcp").read_text().splitlines()
    port = f"{emulator.record.port:04X}"
    listening = {line.split()[1] for line in table if f":{port} 00000000:0000 0A" in line}
    assert listening == {f"0100007F:{port}"}
    assert "default" not in shell(device, "/bin/busybox ip route")[1]


@emulated
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_outputs_are_the_hosts(
    runtime: Runtime,
    device: Any,
    bundle: Bundle,
    artifacts: dict[Runtime, Artifact],
    tmp_path: Path,
) -> None:
    job = write_job(tmp_path, artifacts[runtime], a_feed(), threads=1)
    assert run_here(build_bundle("x86_64"), runtime, tmp_path).returncode == 0
    expected = read_output(tmp_path, job)
    code, result = run_there(device, bundle, job, tmp_path)
    result.require(job)
    assert (code, result.runner.abi) == (0, "arm64-v8a")
    np.testing.assert_allclose(read_output(tmp_path, job), expected, rtol=0, atol=1e-5)


@emulated
def test_an_altered_model_is_an_error_there(
    device: Any, bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    job = write_job(tmp_path, artifacts["litert"], a_feed())
    (tmp_path / MODEL).write_bytes(b"altered")
    code, result = run_there(device, bundle, job, tmp_path)
    assert code == 1
    with pytest.raises(DeviceError, match="failed at model: .*sha256"):
        result.require(job)


@emulated
def test_counted_instructions_repeat_on_a_second_device(
    image: Image,
    emulator: Emulator,
    bundle: Bundle,
    artifacts: dict[Runtime, Artifact],
    tmp_path: Path,
) -> None:
    options = {"mode": "burst", "warmups": 2, "runs": 5, "threads": 1}
    job = write_job(tmp_path, artifacts["litert"], a_feed(), **options)
    with Emulator(image, hardware=Hardware(icount=True)) as counting:
        assert counting.serial != emulator.serial
        for device in connected(counting.serial):
            push_bundle(device, bundle)
            _, result = run_there(device, bundle, job, tmp_path)
    samples = result.require(job)[0].samples_ms
    assert max(samples) / min(samples) < 1.02


@emulated
def test_a_device_that_does_not_boot_is_an_error_and_gone(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no answer from adbd"):
        start_detached(a_broken_image(tmp_path), tmp_path, port=free_port(), boot_timeout_s=1)
    assert list(records(tmp_path)) == []


@emulated
def test_a_detached_device_is_stopped_by_its_record(image: Image, tmp_path: Path) -> None:
    port = free_port()
    record = start_detached(image, tmp_path, port=port)
    assert list(records(tmp_path)) == [record]
    with pytest.raises(DeviceError, match="runs already"):
        start_detached(image, tmp_path, port=port)
    assert stop_all(tmp_path, port=port) == [record]
    assert not record.alive()
    assert not adbd_answers(port, timeout_s=0.5)


@emulated
def test_a_killed_program_takes_its_device_along(image: Image) -> None:
    program = (
        "import time; from pathlib import Path; from android_harness.emulator import Emulator\n"
        "from android_harness.image import read_image\n"
        f"with Emulator(read_image(Path({str(image.folder)!r}))) as running:\n"
        "    print(running.record.pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert started_at(pid) is not None
        owner.send_signal(signal.SIGKILL)
    while started_at(pid) is not None:
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
