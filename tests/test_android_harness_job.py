from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from android_harness import job as job_module
from android_harness import job_result
from android_harness.job import JOB_NAME, PAGE, Job, JobInput, JobOutput, Mode
from android_harness.job_result import JobResult, read_result
from dfnet.decoding import decode
from dfnet.errors import ArtifactError, DeviceError, UnsupportedError

SHA = "0123456789abcdef" * 4
JOB = Job(
    runtime="litert",
    artifact_file="model.tflite",
    artifact_sha256=SHA,
    inputs=(JobInput("wide", "wide.bin", (1, 3, 8, 8), "float32", SHA),),
    outputs=(JobOutput("refocused", "refocused.bin", (1, 3, 8, 8), "float32"),),
    mode="burst",
    warmups=1,
    runs=2,
    threads=2,
)


def a_result(**changes: Any) -> dict[str, Any]:
    """What a runner answers to ``JOB``."""
    names = ("name", "version", "sdk", "compiler", "libc", "abi")
    return {
        "protocol": 1,
        "runner": dict.fromkeys(names, "some"),
        "artifact_sha256": SHA,
        "mode": "burst",
        "threads": 2,
        "cpus": [0, 1],
        "accelerator": "XNNPACK",
        "repeats": [a_repeat()],
        "outputs": [
            {
                "name": "refocused",
                "file": "refocused.bin",
                "shape": [1, 3, 8, 8],
                "dtype": "float32",
                "sha256": SHA,
            }
        ],
    } | changes


def a_repeat(**changes: Any) -> dict[str, Any]:
    times = {"load_ms": 1.0, "first_ms": 3.0, "warmup_ms": [2.5], "samples_ms": [2.0, 2.0]}
    return times | {"starts_ms": [0.0, 2.1]} | changes


def read(folder: Path, **changes: Any) -> JobResult:
    (folder / "result.json").write_text(json.dumps(a_result(**changes)))
    return read_result(folder)


def test_a_job_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = JOB.write(tmp_path)
    assert path == tmp_path / JOB_NAME
    assert decode(Job, json.loads(path.read_text()), "job", page=PAGE) == JOB
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": ()}, "got no inputs"),
        ({"inputs": JOB.inputs * 2}, "twice"),
        ({"artifact_file": "wide.bin"}, "twice"),
        ({"artifact_file": "result.json"}, "twice"),
        ({"mode": "parity"}, "needed none"),
        ({"mode": "memory"}, "needed none"),
        ({"runs": 0}, "got no runs"),
        ({"mode": "sustained"}, "needed more"),
        ({"runtime": "executorch", "xnnpack_flags": 4}, "ExecuTorch"),
        ({"runtime": "executorch", "accelerator": "gpu"}, "ExecuTorch"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        replace(JOB, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"artifact_file": "../model"}, "artifact_file"),
        ({"artifact_file": "a b;reboot"}, "artifact_file"),
        ({"artifact_file": "-rf"}, "artifact_file"),
        ({"artifact_file": "a\n"}, "artifact_file"),
        ({"artifact_sha256": "A" * 64}, "sha256"),
        ({"runtime": "coreml"}, "one of executorch, litert"),
        ({"threads": 0}, "threads"),
        ({"cpus": (1, 1)}, "cpus"),
        ({"seconds": 1e9}, "seconds"),
        ({"protocol": 2}, "protocol"),
    ],
)
def test_a_wrong_field_is_never_written(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=message):
        replace(JOB, **changes).write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        replace(JOB, seconds=float("nan")).write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_result_that_answers_its_job(tmp_path: Path) -> None:
    (repeat,) = read(tmp_path).require(JOB)
    assert repeat.samples_ms == (2.0, 2.0)
    assert (repeat.load_ms, repeat.first_ms, repeat.warmup_ms) == (1.0, 3.0, (2.5,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"artifact_sha256": "f" * 64}, "another model"),
        ({"mode": "memory"}, "another model or mode"),
        ({"repeats": []}, "0 repeats"),
        ({"repeats": [a_repeat()] * 2}, "2 repeats"),
        ({"repeats": [a_repeat(samples_ms=[2.0], starts_ms=[0.0])]}, "too few"),
        ({"repeats": [a_repeat(starts_ms=[0.0])]}, "too few"),
        ({"repeats": [a_repeat(warmup_ms=[])]}, "too few"),
        ({"threads": 1}, "threads"),
        ({"cpus": None}, "cores"),
        ({"accelerator": None}, "accelerator"),
        ({"peak_memory_mb": 12.0}, "peak memory"),
        ({"outputs": []}, "outputs"),
    ],
)
def test_a_result_that_answers_something_else(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DeviceError, match=message):
        read(tmp_path, **changes).require(JOB)


def test_too_few_seconds_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="too few"):
        read(tmp_path).require(replace(JOB, seconds=0.0041))
    read(tmp_path).require(replace(JOB, seconds=0.004))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": 2}, "protocol"),
        ({"speed": 1}, "unknown field 'speed'"),
        ({"repeats": [a_repeat(first_ms=0.0)]}, "first_ms"),
        ({"repeats": [a_repeat(samples_ms=[2.0, float("nan")])]}, "samples_ms"),
        ({"repeats": None}, "or neither"),
        ({"error": {"stage": "load", "message": "no"}}, "an error and outputs"),
        ({"peak_memory_mb": -1}, "peak_memory_mb"),
    ],
)
def test_a_malformed_result_is_an_error(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DeviceError, match=message):
        read(tmp_path, **changes)


def test_a_missing_or_cut_result_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="cannot be read"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps(a_result())[:-20])
    with pytest.raises(DeviceError, match="cannot be read"):
        read_result(tmp_path)


def test_what_a_runner_reports_as_an_error_is_raised(tmp_path: Path) -> None:
    error = {"stage": "inputs", "message": "input 'wide':\n got 3 bytes"}
    result = read(tmp_path, error=error, repeats=None, outputs=None)
    with pytest.raises(DeviceError, match=r"some failed at inputs: input 'wide': got 3 bytes"):
        result.require(JOB)


def documented(heading: str) -> set[str]:
    """Last names of the fields in a table of the page."""
    text = Path(PAGE).read_text()
    table = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return {
        re.split(r"[.\[]", name.replace("[]", ""))[-1]
        for name in re.findall(r"^\| `([a-z0-9_.\[\]]+)` \|", table, re.MULTILINE)
    }


def declared(*kinds: type) -> set[str]:
    return {field.name for kind in kinds for field in fields(kind)}


def test_the_page_and_the_classes_name_the_same_fields() -> None:
    modes = set(get_args(Mode))
    assert documented("job.json") - modes == declared(Job, JobInput)
    assert documented("result.json") == declared(
        JobResult, job_result.RunnerBuild, job_result.JobRepeat, job_result.JobError
    )
    assert modes <= documented("job.json")
    assert f"Version {job_module.PROTOCOL}." in Path(PAGE).read_text()
