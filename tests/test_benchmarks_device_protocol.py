"""One protocol in three places: Python's dataclasses, Swift's structs, and the page about them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import device_protocol as protocol
from benchmarks.__main__ import main
from dfnet.artifact import Artifact, sha256_of, write_manifest
from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.console import run_command
from dfnet.decoding import decode
from dfnet.manifest import TensorSpec
from dfnet.model import DFNet
from dfnet.profiles import Precision

from fake_artifacts import write_artifact
from fakes import use_fake_runtime

IOS = Path("benchmarks/ios")
PAGE = Path("docs/device-protocol.md")
STRUCTS = (
    protocol.JobInput,
    protocol.Job,
    protocol.DeviceFacts,
    protocol.RunnerFacts,
    protocol.AcceleratorFacts,
    protocol.DeviceRepeat,
    protocol.RunError,
    protocol.DeviceResult,
)


def swift_keys(struct: str) -> set[str]:
    """The JSON keys of a Swift struct: its properties in snake_case, as its coders write them."""
    source = (IOS / "Sources/LatencyRunner/Protocol.swift").read_text()
    found = re.search(rf"struct {struct}: Codable {{\n(.*?)\n}}", source, re.DOTALL)
    assert found, struct
    declared = re.findall(r"^ +let ([\w`, ]+):", found[1], re.MULTILINE)
    names = [name.strip(" `") for names in declared for name in names.split(",")]
    return {re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower() for name in names}


@pytest.mark.parametrize("kind", STRUCTS)
def test_swift_and_python_have_the_same_fields(kind: type) -> None:
    assert swift_keys(kind.__name__) == {field.name for field in fields(kind)}


@pytest.mark.parametrize("kind", STRUCTS)
def test_the_page_explains_every_field(kind: type) -> None:
    explained = set(re.findall(r"^\| `([\w.\[\]]+)` \|", PAGE.read_text(), re.MULTILINE))
    names = {re.sub(r".*\.", "", name).removesuffix("[]") for name in explained}
    assert {field.name for field in fields(kind)} <= names


def test_swift_and_python_speak_the_same_version() -> None:
    source = (IOS / "Sources/LatencyRunner/Protocol.swift").read_text()
    assert f"let protocolVersion = {protocol.PROTOCOL}\n" in source
    assert f"Version {protocol.PROTOCOL}." in PAGE.read_text()


def test_the_hash_that_swift_is_tested_with_is_ours(tmp_path: Path) -> None:
    source = (IOS / "Tests/LatencyRunnerTests/LatencyRunnerTests.swift").read_text()
    part = source[source.index("func testFolderHashIsPythons") :]
    for text, path in re.findall(r'try write\("(.*)", to: "(.*)"\)', part[: part.index("}\n")]):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert f'"{sha256_of(tmp_path)}"' in part
    # The order is by name: were it by the whole path, "a-b/c" would come first.
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file())[1] == tmp_path / "a" / "b"


def test_the_example_on_the_page_is_a_valid_result() -> None:
    example = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    job, result = (json.loads(text) for text in example)
    assert isinstance(decode(protocol.Job, job, "job", page=protocol.PAGE), protocol.Job)
    assert isinstance(
        decode(protocol.DeviceResult, result, "result", page=protocol.PAGE), protocol.DeviceResult
    )


def with_inputs(artifact: Artifact, layout: str, dtype: str = "float32") -> Artifact:
    shape = (1, 64, 64, 3) if layout == "NHWC" else (1, 3, 64, 64)
    manifest = replace(artifact.manifest, inputs=(TensorSpec("wide", shape, dtype, layout),))
    write_manifest(artifact.folder, manifest)
    return Artifact(artifact.folder, manifest)


def write_job(output: Path, captures: CaptureSet, *arguments: str) -> int:
    given = ["job", *arguments, "--captures", str(captures.root), "--output", str(output)]
    with pytest.raises(SystemExit) as exit_info:
        run_command(main, [*given, str(output / "jobs")])
    assert isinstance(exit_info.value.code, int)
    return exit_info.value.code


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_job_holds_the_file_and_its_inputs(
    tmp_path: Path,
    tiny_network: DFNet,
    make_capture_set: Callable[..., CaptureSet],
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
) -> None:
    use_fake_runtime(monkeypatch)
    captures = make_capture_set(Split.HELD_OUT, 2)
    artifact = with_inputs(write_artifact(tmp_path, tiny_network, platform="ios"), layout)
    assert write_job(tmp_path, captures, "--accelerator", "cpu", "--device-name", "Mine") == 0
    folder = tmp_path / "jobs" / artifact.id
    job = decode(
        protocol.Job, json.loads((folder / "job.json").read_text()), "job", page=protocol.PAGE
    )
    assert sha256_of(folder / job.artifact_file) == job.artifact_sha256
    assert (job.accelerator, job.device_name, job.threads) == (("cpu",), "Mine", None)
    assert (job.repeats, job.warmups, job.runs, job.seconds) == (3, 5, 50, 1.0)
    (one,) = job.inputs
    values = np.fromfile(folder / one.file, "<f4").reshape(one.shape)
    assert one.shape == artifact.manifest.inputs[0].shape
    assert 0 < values.std() < 1


def test_inputs_that_are_not_float_are_refused(
    tmp_path: Path,
    tiny_network: DFNet,
    make_capture_set: Callable[..., CaptureSet],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    use_fake_runtime(monkeypatch)
    artifact = write_artifact(tmp_path, tiny_network, recipe="int8")
    assert artifact.manifest.precision is Precision.W8A8
    with_inputs(artifact, "NCHW", "int8")
    assert write_job(tmp_path, make_capture_set(Split.HELD_OUT, 2)) == 2
    assert "needed float32 inputs" in capfd.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "jobs" / artifact.id).exists()
