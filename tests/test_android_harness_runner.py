"""The Runner protocol over adb: real native runners behind a fake device, and on the emulator."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("executorch")


from fake_phone import PHONE, Phone, a_phone

from android_harness.bundle import Bundle, BundleManifest, build_bundle
from android_harness.install import installed
from android_harness.job import PROTOCOL, Runtime
from android_harness.latency import Amount, measure
from android_harness.runner import AndroidRunner, Settings
from dfnet.artifact import Artifact, sha256_of
from dfnet.errors import DeviceError, UnsupportedError
from dfnet.runner import Device
from dfnet.signature import OUTPUT
from export import load_runtime

from device_jobs import a_feed, export_tiny, skipping_what_is_not_installed

pytestmark = [pytest.mark.litert, pytest.mark.executorch]

RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
SHORT = Amount(repeats=2, warmups=1, runs=3, seconds=0.0)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    with skipping_what_is_not_installed():
        return build_bundle("x86_64")
    raise AssertionError  # not reached: skipped or raised


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[Runtime, Artifact]:
    return {runtime: export_tiny(runtime, tmp_path_factory.mktemp(runtime)) for runtime in RUNTIMES}


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    with a_phone(tmp_path, monkeypatch) as found:
        yield found


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
