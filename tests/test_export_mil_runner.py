"""Core ML packages, alone and inside .pte files, judged by the reference evaluator as runners."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dfnet.artifact import Artifact
from dfnet.capture import Capture, Image, Split
from dfnet.captureset import CaptureSet
from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.metrics import psnr_db
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from dfnet.runner import Runner
from dfnet.signature import OUTPUT, Feed
from dfnet.tensors import feed_tensors
from quantize.fuse import fuse
from quantize.program import Program
from quantize.ptq import StaticProgram, quantize
from quantize.recipe import find_recipe

import lowering

pytest.importorskip("coremltools")
pytest.importorskip("executorch")

import coremltools as ct
import coremltools.optimize.coreml as cto

from export.coreml import CoreML
from export.executorch import ExecuTorch
from export.executorch_embedded import read_embedded
from export.mil import Arithmetic, Package
from export.mil_runner import EvaluatorRunner
from export.runtime import Runtime

pytestmark = [pytest.mark.coreml, pytest.mark.executorch]

SIZE = Resolution(64, 64)
Build = Callable[[Runtime, str], Artifact]


@pytest.fixture(scope="module")
def programs() -> dict[str, Program]:
    return {}


@pytest.fixture(scope="module")
def artifacts() -> dict[tuple[str, str], Artifact]:
    return {}


@pytest.fixture
def program(
    programs: dict[str, Program],
    tiny_network: DFNet,
    feed: Feed,
    make_capture_set: Callable[..., CaptureSet],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], Program]:
    """``program(recipe)``: the tiny network's, made once for this file; `int8` splits channels."""
    monkeypatch.setattr("quantize.split_choice.QUIET_ENOUGH", 0.0)

    def make(recipe: str) -> Program:
        if recipe not in programs:
            calibration = make_capture_set(Split.CALIBRATION, 8)
            network = fuse(tiny_network, [feed])
            programs[recipe] = quantize(network, find_recipe(recipe), calibration)
        return programs[recipe]

    return make


@pytest.fixture
def build(
    artifacts: dict[tuple[str, str], Artifact],
    program: Callable[[str], Program],
    tmp_path_factory: pytest.TempPathFactory,
) -> Build:
    """``build(runtime, recipe)``: its iOS artifact, made once for this file."""

    def make(runtime: Runtime, recipe: str) -> Artifact:
        key = runtime.key, recipe
        if key not in artifacts:
            folder = tmp_path_factory.mktemp("-".join(key))
            artifacts[key] = lowering.lower(
                runtime, program(recipe), folder, resolution=SIZE, backend="coreml", platform="ios"
            )
        return artifacts[key]

    return make


def outputs(runtime: Runtime, artifact: Artifact, feed: Feed) -> dict[str, Image]:
    """By the name of what ran."""
    found = {}
    for execution in runtime.executions(artifact, threads=1):
        with execution() as runner:
            found[runner.device.name] = runner.infer(feed)[OUTPUT]
            assert runner.device.kind == "evaluator"
    return found


def reference(network: nn.Module, feed: Feed) -> Image:
    with torch.no_grad():
        image: Image = network(*feed_tensors(feed)).numpy()
    return image


HALF_NAMES = {f"reference evaluator, {one} arithmetic" for one in Arithmetic}


def test_a_float32_package_is_the_torch_network(
    build: Build, tiny_network: DFNet, feed: Feed
) -> None:
    found = outputs(CoreML(), build(CoreML(), "fp32"), feed)
    assert list(found) == ["reference evaluator, declared arithmetic"]
    (got,) = found.values()
    assert psnr_db(reference(tiny_network, feed), got) >= 100


@pytest.mark.parametrize("runtime", [CoreML(), ExecuTorch()], ids=["coreml", "executorch"])
def test_a_float16_file_is_near_it_in_every_legal_execution(
    runtime: Runtime, build: Build, tiny_network: DFNet, feed: Feed
) -> None:
    found = outputs(runtime, build(runtime, "fp16"), feed)
    assert found.keys() == HALF_NAMES
    assert min(psnr_db(reference(tiny_network, feed), got) for got in found.values()) >= 60
    assert len({got.tobytes() for got in found.values()}) == len(found)


@pytest.mark.parametrize("recipe", ["int8", "int8-full"])
@pytest.mark.parametrize("runtime", [CoreML(), ExecuTorch()], ids=["coreml", "executorch"])
def test_an_int8_file_is_near_its_graph(
    runtime: Runtime, recipe: str, build: Build, program: Callable[[str], Program], feed: Feed
) -> None:
    made = program(recipe)
    assert isinstance(made, StaticProgram)
    assert bool(made.splits) is (recipe == "int8")
    graph = lowering.simulate(made, feed)
    found = outputs(runtime, build(runtime, recipe), feed)
    assert found.keys() == HALF_NAMES
    # What they lose against the float network is held to 0.5 dB on the trained one
    # (test_main_job.py): an untrained one changes so little that float16 weighs as much as int8.
    assert min(psnr_db(graph, got) for got in found.values()) >= 45


def test_compressed_weights_are_what_they_decompress_to(
    build: Build, tiny_network: DFNet, feed: Feed, tmp_path: Path
) -> None:
    artifact = build(CoreML(), "w8")
    dense = tmp_path / "dense.mlpackage"
    model = ct.models.MLModel(str(artifact.path), skip_model_load=True)
    cto.decompress_weights(model).save(str(dense))
    network = with_weights(fuse(tiny_network, [feed]), Package(dense))
    exact = outputs(CoreML(), artifact, feed)["reference evaluator, float32 arithmetic"]
    assert psnr_db(reference(network, feed), exact) >= 100


def with_weights(network: nn.Module, package: Package) -> nn.Module:
    """``network`` with the convolutions' weights that a package without compression holds."""
    arrays = {
        operation.name: operation.attributes["val"].array
        for operation in package.function().body.walk()
        if operation.type == "const"
    }
    copy = deepcopy(network)
    state = copy.state_dict()
    for name in state:
        (found,) = (
            array
            for key, array in arrays.items()
            if key.startswith("p_" + name.replace(".", "_") + "_to_fp16")
        )
        state[name] = torch.from_numpy(found.astype(np.float32))
    copy.load_state_dict(state)
    return copy


def test_an_altered_weight_is_a_lost_decibel(
    build: Build, tiny_network: DFNet, feed: Feed, tmp_path: Path
) -> None:
    import shutil

    artifact = build(CoreML(), "fp32")
    copy = tmp_path / "model.mlpackage"
    shutil.copytree(artifact.path, copy)
    weights = next(copy.rglob("weight.bin"))
    raw = bytearray(weights.read_bytes())
    raw[131] ^= 0x40  # the exponent of the first weight
    weights.write_bytes(bytes(raw))
    with EvaluatorRunner(Package(copy), artifact.manifest, Arithmetic.DECLARED) as runner:
        got = runner.infer(feed)[OUTPUT]
    assert not psnr_db(reference(tiny_network, feed), got) >= 100


def test_the_package_in_a_pte_gets_its_inputs_by_its_own_names(build: Build) -> None:
    package = read_embedded(build(ExecuTorch(), "fp16"))
    assert set(package.input_names) == set(package.description().inputs)
    assert len(set(package.input_names.values())) == len(package.input_names)


def test_an_unpacked_package_is_removed_after_use(build: Build) -> None:
    package = read_embedded(build(ExecuTorch(), "fp16"))
    folder = package.path
    assert folder.is_dir()
    del package
    assert not folder.exists()


def test_an_altered_pte_is_refused(build: Build, tmp_path: Path) -> None:
    import shutil

    from dfnet.artifact import read_artifact

    artifact = build(ExecuTorch(), "fp16")
    shutil.copytree(artifact.path.parent, tmp_path / "copy")
    copy = read_artifact(tmp_path / "copy")
    raw = bytearray(copy.path.read_bytes())
    raw[len(raw) // 2] ^= 1
    copy.path.write_bytes(bytes(raw))
    with pytest.raises(ArtifactError):
        ExecuTorch().executions(copy, threads=1)


@pytest.fixture
def runner(build: Build) -> Runner:
    artifact = build(CoreML(), "fp16")
    return EvaluatorRunner(Package(artifact.path), artifact.manifest, Arithmetic.DECLARED)


def test_an_evaluator_has_no_latency(runner: Runner, feed: Feed) -> None:
    with runner, pytest.raises(UnsupportedError, match=r"docs/ios\.md"):
        runner.time(feed, warmup=0, runs=1)


def test_an_overflow_is_named(runner: Runner, feed: Feed) -> None:
    loud = {**feed, "wide": np.full_like(feed["wide"], 1e6)}
    with runner, pytest.raises(ArtifactError, match="results overflow float16, the first is"):
        runner.infer(loud)


def test_another_size_is_refused(runner: Runner, make_capture: Callable[..., Capture]) -> None:
    capture = make_capture(0, size=128)
    with runner, pytest.raises(UnsupportedError, match="64x64"):
        runner.infer(capture.feed(capture.targets[0]))


def test_the_evaluator_needs_no_coremltools_but_its_messages() -> None:
    code = (
        "import sys, export.mil; "
        "print(sorted(m for m in sys.modules if m.split('.')[0] == 'coremltools'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    loaded = done.stdout.strip()
    assert "coremltools.proto" in loaded
    assert "'coremltools'" not in loaded
    assert "converters" not in loaded
