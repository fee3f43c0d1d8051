from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("executorch")

from android_harness.bundle import Bundle, build_bundle
from android_harness.job import XNNPACK_FORCE_FP16, Job, Runtime
from android_harness.job_result import JobResult, read_result
from dfnet.artifact import Artifact, sha256_of
from dfnet.errors import DeviceError
from dfnet.signature import OUTPUT
from export import load_runtime

from device_jobs import (
    MODEL,
    a_feed,
    export_tiny,
    read_output,
    run_here,
    skipping_what_is_not_installed,
    write_job,
)

pytestmark = [pytest.mark.litert, pytest.mark.executorch]

RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
OUT = f"{OUTPUT}.out"

Spoil = Callable[[dict[str, Any], Path], None]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    with skipping_what_is_not_installed():
        return build_bundle("x86_64")
    raise AssertionError  # not reached: skipped or raised


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[Runtime, Artifact]:
    return {runtime: export_tiny(runtime, tmp_path_factory.mktemp(runtime)) for runtime in RUNTIMES}


def failure(bundle: Bundle, runtime: Runtime, folder: Path) -> tuple[str, str]:
    """Runs a job that must fail: its stage and message. No output may be left."""
    ended = run_here(bundle, runtime, folder)
    result = read_result(folder)
    assert ended.returncode == 1
    assert result.error is not None
    assert not (folder / OUT).is_file()
    assert result.repeats is None
    return result.error.stage, result.error.message


def answer(bundle: Bundle, folder: Path, job: Job) -> JobResult:
    ended = run_here(bundle, job.runtime, folder)
    assert ended.returncode == 0, ended.stderr
    result = read_result(folder)
    result.require(job)
    return result


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_outputs_are_those_of_the_runtime_in_python(
    runtime: Runtime, bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    job = write_job(tmp_path, artifacts[runtime], a_feed(), threads=1)
    result = answer(bundle, tmp_path, job)
    with load_runtime(runtime).open(artifacts[runtime], threads=1) as runner:
        expected = runner.infer(a_feed())[OUTPUT]
        other = runner.infer(a_feed(seed=1))[OUTPUT]
    got = read_output(tmp_path, job)
    np.testing.assert_array_equal(got, expected)
    assert not np.array_equal(got, other)
    assert result.accelerator == "XNNPACK"
    assert result.outputs is not None
    assert result.outputs[0].sha256 == sha256_of(tmp_path / OUT)
    assert (result.runner.name, result.runner.abi) == (f"{runtime}_runner", "x86_64")
    assert result.runner.libc.startswith("glibc ")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_burst_keeps_every_sample_of_every_repeat(
    runtime: Runtime, bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    options = {"mode": "burst", "repeats": 2, "warmups": 3, "runs": 4, "seconds": 0.05}
    job = write_job(tmp_path, artifacts[runtime], a_feed(), threads=2, **options)
    result = answer(bundle, tmp_path, job)
    for repeat in result.require(job):
        assert len(repeat.warmup_ms) == 3
        assert len(repeat.samples_ms) >= 4
        assert sum(repeat.samples_ms) >= 49.999
        assert repeat.starts_ms[0] == 0
    assert result.peak_memory_mb is None


def test_sustained_never_pauses(
    bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    job = write_job(
        tmp_path, artifacts["litert"], a_feed(), mode="sustained", runs=1, seconds=0.2, threads=1
    )
    (repeat,) = answer(bundle, tmp_path, job).require(job)
    assert repeat.starts_ms[-1] + repeat.samples_ms[-1] >= 199.999
    ends = [a + b for a, b in zip(repeat.starts_ms, repeat.samples_ms, strict=True)]
    assert all(start >= end for start, end in zip(repeat.starts_ms[1:], ends[:-1], strict=True))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_memory_is_measured_apart(
    runtime: Runtime, bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    job = write_job(tmp_path, artifacts[runtime], a_feed(), mode="memory", threads=1)
    result = answer(bundle, tmp_path, job)
    assert result.peak_memory_mb is not None
    assert 1 < result.peak_memory_mb < 1000
    assert result.require(job)[0].samples_ms == ()


def test_force_fp16_changes_the_arithmetic(
    bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    outputs = []
    for flags in (None, XNNPACK_FORCE_FP16):
        folder = tmp_path / str(flags)
        job = write_job(folder, artifacts["litert"], a_feed(), xnnpack_flags=flags)
        answer(bundle, folder, job)
        outputs.append(read_output(folder, job).astype(np.float64))
    difference = np.abs(outputs[0] - outputs[1]).max()
    assert 1e-5 < difference < 0.05


def test_cores_are_the_jobs(
    bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    core = min(os.sched_getaffinity(0))
    job = write_job(tmp_path, artifacts["executorch"], a_feed(), threads=1, cpus=(core,))
    assert answer(bundle, tmp_path, job).cpus == (core,)


def test_a_result_must_answer_its_job(
    bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    job = write_job(tmp_path, artifacts["litert"], a_feed(), threads=1)
    result = answer(bundle, tmp_path, job)
    other = write_job(tmp_path, artifacts["litert"], a_feed(), mode="burst", runs=2, threads=1)
    with pytest.raises(DeviceError, match=r"got another model or mode"):
        result.require(other)


def changed(*path: str | int, to: object) -> Spoil:
    """Sets a field of the job."""

    def spoil(job: dict[str, Any], folder: Path) -> None:
        place: Any = job
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return spoil


def without(name: str) -> Spoil:
    return lambda job, folder: job.__delitem__(name)


def file_of(content: Callable[[bytes], bytes], name: str, *, rehash: bool = False) -> Spoil:
    """Changes a file; with ``rehash`` the job is told its new hash."""

    def spoil(job: dict[str, Any], folder: Path) -> None:
        path = folder / name
        path.write_bytes(content(path.read_bytes()))
        if rehash and name == MODEL:
            job["artifact_sha256"] = sha256_of(path)
        elif rehash:
            (one,) = (one for one in job["inputs"] if one["file"] == name)
            one["sha256"] = sha256_of(path)

    return spoil


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def noise(data: bytes) -> bytes:
    return np.random.default_rng(0).bytes(len(data))


MALFORMED: dict[str, tuple[Spoil, str, str]] = {
    "another protocol": (changed("protocol", to=2), "job", "job.protocol: got 2"),
    "another runtime": (changed("runtime", to="coreml"), "job", "job.runtime: got"),
    "an unknown field": (changed("speed", to=1), "job", "unknown field 'speed'"),
    "a missing field": (without("repeats"), "job", "job.repeats: got nothing"),
    "text for a number": (changed("runs", to="3"), "job", 'job.runs: got "3"'),
    "a fraction": (changed("runs", to=1.5), "job", "job.runs: got 1.5"),
    "true for a number": (changed("warmups", to=True), "job", "job.warmups: got true"),
    "a huge number": (changed("repeats", to=2**64), "job", "job.repeats: got"),
    "no threads": (changed("threads", to=0), "job", "job.threads: got 0"),
    "an endless run": (changed("seconds", to=1e9), "job", "job.seconds: got"),
    "a path": (changed("inputs", 0, "file", to="../wide.in"), "job", "inputs[0].file: got"),
    "an option for a name": (changed("artifact_file", to="-rf"), "job", "artifact_file: got"),
    "output over input": (changed("outputs", 0, "file", to="wide.in"), "job", "'wide.in' twice"),
    "output over model": (changed("outputs", 0, "file", to=MODEL), "job", "twice"),
    "a name twice": (changed("inputs", 1, "name", to="wide"), "job", "'wide' twice"),
    "no inputs": (changed("inputs", to=[]), "job", "job.inputs: got []"),
    "no shape": (changed("inputs", 0, "shape", to=[]), "job", "inputs[0].shape: got []"),
    "a negative size": (changed("inputs", 0, "shape", to=[1, -3, 32, 40]), "job", "got -3"),
    "an enormous shape": (changed("inputs", 0, "shape", to=[2**30] * 3), "job", "2^31"),
    "an unknown dtype": (changed("inputs", 0, "dtype", to="bfloat16"), "job", "one of float16"),
    "an unknown mode": (changed("mode", to="fast"), "job", "one of burst"),
    "a burst of nothing": (changed("mode", to="burst"), "job", "with 0 runs"),
    "parity with runs": (changed("runs", to=3), "job", "needed none"),
    "a core that is not there": (changed("cpus", to=[1023]), "job", "may not use"),
    "a core twice": (changed("cpus", to=[0, 0]), "job", "different cores"),
    "a hash of another model": (changed("artifact_sha256", to="0" * 64), "model", "needed 00000"),
    "no hash": (changed("artifact_sha256", to="abc"), "job", "64 lowercase"),
    "a model that is not there": (changed("artifact_file", to="no.bin"), "model", "cannot be read"),
    "a model altered on its way": (file_of(flipped, MODEL), "model", "got sha256"),
    "an input that is not there": (changed("inputs", 0, "file", to="no.in"), "inputs", "cannot be"),
    "a truncated input": (file_of(lambda data: data[:-4], "wide.in"), "inputs", "needed 15360"),
    "an input too long": (file_of(lambda data: data + b"1234", "wide.in"), "inputs", "got 15364"),
    "an input altered on its way": (file_of(flipped, "wide.in"), "inputs", "got sha256"),
    "an input of another shape": (
        changed("inputs", 0, "shape", to=[1, 3, 40, 32]),
        "load",
        "needed [1, 3, 32, 40] float32 as in the model",
    ),
    "an output of another shape": (changed("outputs", 0, "shape", to=[3]), "load", "output"),
    "an output of another dtype": (changed("outputs", 0, "dtype", to="int8"), "load", "int8"),
    "a truncated model": (
        file_of(lambda data: data[: len(data) // 2], MODEL, rehash=True),
        "load",
        "",
    ),
    "an empty model": (file_of(lambda data: b"", MODEL, rehash=True), "load", ""),
    "noise for a model": (file_of(noise, MODEL, rehash=True), "load", ""),
}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_jobs_are_errors(
    case: str, runtime: Runtime, bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    spoil, stage, message = MALFORMED[case]
    job = write_job(tmp_path, artifacts[runtime], a_feed(), threads=1).to_json()
    (tmp_path / OUT).write_bytes(b"of an earlier run")
    spoil(job, tmp_path)
    (tmp_path / "job.json").write_text(json.dumps(job))
    if job["outputs"][0]["file"] != OUT or stage == "job":
        (tmp_path / OUT).unlink()  # a job that cannot be read does not name its outputs
    got_stage, got_message = failure(bundle, runtime, tmp_path)
    assert got_stage == stage
    assert message in got_message


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "nonsense", '{"protocol": 1, "protocol": 1}', "\xff\xfe", "[" * 100_000],
)
def test_what_is_no_job_is_an_error(text: str, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_bytes(text.encode("latin-1"))
    assert failure(bundle, "litert", tmp_path)[0] == "job"


def test_no_job_at_all_is_an_error(bundle: Bundle, tmp_path: Path) -> None:
    stage, message = failure(bundle, "executorch", tmp_path)
    assert (stage, "no such file" in message) == ("job", True)


def test_executorch_refuses_what_only_litert_has(
    bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    for name, value in (("xnnpack_flags", 4), ("accelerator", "gpu")):
        job = write_job(tmp_path, artifacts["executorch"], a_feed()).to_json()
        (tmp_path / "job.json").write_text(json.dumps(job | {name: value}))
        assert f"job.{name}" in failure(bundle, "executorch", tmp_path)[1]


def test_litert_finds_tensors_by_name(
    bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    job = write_job(tmp_path, artifacts["litert"], a_feed())
    answer(bundle, tmp_path, job)
    expected = read_output(tmp_path, job)
    shuffled = job.to_json()
    shuffled["inputs"] = list(reversed(shuffled["inputs"]))
    (tmp_path / "job.json").write_text(json.dumps(shuffled))
    assert run_here(bundle, "litert", tmp_path).returncode == 0
    np.testing.assert_array_equal(read_output(tmp_path, job), expected)
    shuffled["inputs"][0]["name"] = "depth"
    (tmp_path / "job.json").write_text(json.dumps(shuffled))
    assert "got 'depth'" in failure(bundle, "litert", tmp_path)[1]


def test_an_output_that_cannot_be_written_is_an_error(
    bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    write_job(tmp_path, artifacts["litert"], a_feed())
    (tmp_path / OUT / "in the way").mkdir(parents=True)
    assert failure(bundle, "litert", tmp_path)[0] == "outputs"


def test_a_full_disk_leaves_no_result(
    bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    write_job(tmp_path, artifacts["litert"], a_feed())
    (tmp_path / "result.json.part").symlink_to("/dev/full")
    ended = run_here(bundle, "litert", tmp_path)
    assert ended.returncode == 2
    assert "No space left" in ended.stderr
    assert not (tmp_path / "result.json").exists()
    assert not (tmp_path / OUT).exists()


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 65_536, 65_537])
def test_hashes_are_sha256(
    size: int, bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    job = write_job(tmp_path, artifacts["litert"], a_feed()).to_json()
    content = bytes(range(256)) * 257
    (tmp_path / MODEL).write_bytes(content[:size])
    for digest, stage in (
        (hashlib.sha256(content[:size]).hexdigest(), "load"),
        ("0" * 64, "model"),
    ):
        (tmp_path / "job.json").write_text(json.dumps(job | {"artifact_sha256": digest}))
        assert failure(bundle, "litert", tmp_path)[0] == stage


def started(bundle: Bundle, job: Job, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A runner, and the child it works in, once that has begun to load."""
    command = bundle.command(job.runtime, str(folder))
    silent = subprocess.DEVNULL
    parent = subprocess.Popen(command, cwd=bundle.folder, stdout=silent, stderr=silent)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.01)
    return parent, int(found[0])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_crash_is_an_error_with_its_stage(
    runtime: Runtime, bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    options = {"mode": "sustained", "runs": 1, "seconds": 300, "threads": 3}
    job = write_job(tmp_path, artifacts[runtime], a_feed(), **options)
    parent, child = started(bundle, job, tmp_path)
    threads = Path(f"/proc/{child}/task")
    while len(list(threads.iterdir())) < 3:  # the job's threads are there before it runs
        time.sleep(0.01)
    os.kill(child, signal.SIGSEGV)
    assert parent.wait(timeout=60) == 1
    error = read_result(tmp_path).error
    assert error is not None
    assert error.stage in ("load", "run")
    assert "signal 11" in error.message


def test_whoever_kills_the_runner_ends_its_work(
    bundle: Bundle, artifacts: dict[Runtime, Artifact], tmp_path: Path
) -> None:
    options = {"mode": "sustained", "runs": 1, "seconds": 300, "threads": 1}
    job = write_job(tmp_path, artifacts["litert"], a_feed(), **options)
    parent, child = started(bundle, job, tmp_path)
    time.sleep(0.2)
    parent.kill()
    parent.wait(timeout=60)
    stat = Path(f"/proc/{child}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert not (tmp_path / "result.json").exists()
