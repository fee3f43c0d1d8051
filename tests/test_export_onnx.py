"""ONNX export and ONNX Runtime: parity with torch, int8 operators, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfnet.artifact import Artifact
from dfnet.capture import Capture, Image, Split
from dfnet.captureset import CaptureSet
from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.metrics import psnr_db
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from dfnet.signature import OUTPUT, Feed
from quantize.fuse import fuse
from quantize.program import Program
from quantize.ptq import FloatProgram
from quantize.recipe import find_recipe

import lowering

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxsim")

from export.onnx import ONNX  # noqa: E402
from export.onnx_graph import unsigned_activations  # noqa: E402
from export.sdk_program import SdkProgram  # noqa: E402

pytestmark = pytest.mark.onnx

SIZE = Resolution(64, 64)
CONVOLUTIONS = 37
"""Of the fused DFNet, whatever its width, with one residual block per scale."""

Build = Callable[[str], tuple[Program, Artifact]]


@pytest.fixture(scope="module")
def built() -> dict[str, tuple[Program, Artifact]]:
    return {}


@pytest.fixture
def build(
    built: dict[str, tuple[Program, Artifact]],
    tiny_network: DFNet,
    feed: Feed,
    make_capture_set: Callable[..., CaptureSet],
    tmp_path_factory: pytest.TempPathFactory,
) -> Build:
    """``build(recipe)``: the program and its artifact, built once for this file."""

    def make(recipe: str) -> tuple[Program, Artifact]:
        if recipe not in built:
            calibration = make_capture_set(Split.CALIBRATION, 8)
            network = fuse(tiny_network, [feed])
            program = ONNX().quantize(network, find_recipe(recipe), calibration)
            built[recipe] = program, lower(program, tmp_path_factory.mktemp(recipe))
        return built[recipe]

    return make


def lower(program: Program, folder: Path) -> Artifact:
    return lowering.lower(
        ONNX(), program, folder, resolution=SIZE, backend="cpu", platform="android"
    )


def infer(artifact: Artifact, feed: Feed) -> Image:
    return lowering.infer(ONNX(), artifact, feed)


def test_float_file_matches_torch(build: Build, feed: Feed) -> None:
    program, artifact = build("fp32")
    np.testing.assert_allclose(infer(artifact, feed), lowering.simulate(program, feed), atol=1e-6)


@pytest.mark.parametrize("recipe", ["int8", "int8-full"])
def test_int8_file_matches_its_simulation(recipe: str, build: Build, feed: Feed) -> None:
    program, artifact = build(recipe)
    simulation = lowering.simulate(program, feed)
    assert psnr_db(simulation, infer(artifact, feed)) > 50
    # A control: with wrong scales the simulation is clearly something else.
    other = lowering.simulate(lowering.mistuned(program), feed)
    assert psnr_db(simulation, infer(artifact, feed)) > psnr_db(simulation, other) + 3


@pytest.mark.parametrize("recipe", ["int8", "int8-full"])
def test_every_convolution_becomes_an_int8_kernel(recipe: str, build: Build) -> None:
    delegation = build(recipe)[1].manifest.delegation
    assert delegation is not None
    assert delegation.undelegated_convolutions == 0
    assert delegation.placement["CPUExecutionProvider"]["QLinearConv"] == lowering.convolutions(
        recipe
    )


def test_float_file_counts_no_undelegated_convolution(build: Build) -> None:
    artifact = build("fp32")[1]
    assert artifact.manifest.delegation is not None
    assert artifact.manifest.delegation.undelegated_convolutions == 0
    assert artifact.manifest.facts["operators"]["Conv"] == CONVOLUTIONS
    assert "QuantizeLinear" not in artifact.manifest.facts["operators"]


@pytest.mark.parametrize(
    ("recipe", "found"),
    [("fp32", {"Sub", "Sigmoid"}), ("int8", {"Sub", "Sigmoid"}), ("int8-full", {"Resize"})],
)
def test_what_computes_in_float_is_told(recipe: str, found: set[str], build: Build) -> None:
    counts = build(recipe)[1].manifest.facts["computed_in_float"]
    assert found <= set(counts)
    convolutions = sum(n for name, n in counts.items() if "Conv" in name)
    assert convolutions == (CONVOLUTIONS if recipe == "fp32" else 0)
    # The picture's sums are float in `int8` alone of the two.
    assert ("Add" in counts) is (recipe != "int8-full")


def test_activations_are_unsigned_and_weights_signed(build: Build) -> None:
    model = onnx.load(build("int8")[1].path)
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    made = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            assert stored[node.input[2]] == onnx.TensorProto.UINT8
        if node.op_type == "Conv":
            assert stored[made[node.input[1]].input[0]] == onnx.TensorProto.INT8


def test_quantized_weights_are_stored_as_int8(build: Build) -> None:
    float_bytes = build("fp32")[1].manifest.artifact_bytes
    assert build("int8")[1].manifest.artifact_bytes < 0.8 * float_bytes


def test_the_sdk_s_own_int8_runs_and_is_signed(build: Build, feed: Feed) -> None:
    program, artifact = build("sdk-default")
    assert isinstance(program, SdkProgram)
    assert 20 < psnr_db(lowering.simulate(program, feed), infer(artifact, feed)) < 100
    assert artifact.manifest.facts["program_convolutions"]["quantized"] == CONVOLUTIONS
    model = onnx.load(artifact.path)
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    # Ours are unsigned, and leave the blend float.
    assert {stored[node.input[2]] for node in quantizers} == {onnx.TensorProto.INT8}
    assert any("for comparison" in note for note in artifact.manifest.notes)


def test_the_sdk_s_own_ranges_serve_another_size(
    build: Build, make_capture: Callable[..., Capture], tmp_path: Path
) -> None:
    program, _ = build("sdk-default")
    size = Resolution(96, 96)
    artifact = lowering.lower(ONNX(), program, tmp_path, resolution=size, backend="cpu")
    feed = make_capture(1, size=96).feed(make_capture(1, size=96).targets[1])
    assert 20 < psnr_db(lowering.simulate(program, feed), infer(artifact, feed)) < 100


def test_file_holds_no_build_machine_paths(build: Build) -> None:
    data = build("int8")[1].path.read_bytes()
    assert b"stack_trace" not in data
    assert str(Path.cwd()).encode() not in data


def test_signature(build: Build) -> None:
    manifest = build("int8")[1].manifest
    assert [(spec.name, spec.dtype) for spec in manifest.outputs] == [(OUTPUT, "float32")]
    assert manifest.inputs[0].shape == (1, 3, 64, 64)
    assert {spec.layout for spec in manifest.inputs} == {"NCHW"}


def test_equal_builds_have_equal_hashes(build: Build, tmp_path: Path) -> None:
    program, artifact = build("int8")
    assert lower(program, tmp_path).manifest.artifact_sha256 == artifact.manifest.artifact_sha256


def test_inference_is_timed_with_every_sample_kept(build: Build, feed: Feed) -> None:
    artifact = build("int8")[1]
    assert ONNX().cannot_run(artifact) is None
    with ONNX().open(artifact, threads=1) as runner:
        timings = runner.time(feed, warmup=1, runs=4)
        assert runner.device.kind == "host"
    assert len(timings.samples_ms) == 4
    assert "CPUExecutionProvider" in timings.accelerator


def test_noncontiguous_inputs_give_the_same_picture(build: Build, feed: Feed) -> None:
    artifact = build("fp32")[1]
    permuted = {
        name: np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        for name, array in feed.items()
    }
    np.testing.assert_array_equal(infer(artifact, permuted), infer(artifact, feed))


def test_another_size_is_refused(build: Build, feed: Feed) -> None:
    smaller = {name: array[..., :32, :32] for name, array in feed.items()}
    with pytest.raises(UnsupportedError, match="got inputs of 32x32, needed 64x64"):
        infer(build("fp32")[1], smaller)


def test_a_missing_input_is_refused(build: Build, feed: Feed) -> None:
    without = {name: array for name, array in feed.items() if name != "occlusion"}
    with pytest.raises(UnsupportedError, match="occlusion"):
        infer(build("fp32")[1], without)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(kept: float, build: Build, tmp_path: Path) -> None:
    artifact = build("fp32")[1]
    data = artifact.path.read_bytes()
    (tmp_path / artifact.manifest.artifact_file).write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ArtifactError, match="cannot load"):
        ONNX().open(replace(artifact, folder=tmp_path), threads=1)


def test_a_missing_file_is_refused(build: Build, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot load"):
        ONNX().open(replace(build("fp32")[1], folder=tmp_path), threads=1)


@pytest.mark.parametrize(("recipe", "backend"), [("fp16", "cpu"), ("w8", "cpu"), ("fp32", "gpu")])
def test_what_it_cannot_write_is_refused(
    recipe: str, backend: str, build: Build, tmp_path: Path
) -> None:
    program = build("fp32")[0]
    other = FloatProgram(find_recipe(recipe), program.module())
    with pytest.raises(UnsupportedError, match="ONNX export"):
        ONNX().lower(other, backend=backend, resolution=SIZE, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_odd_resolution_names_the_nearest(build: Build, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="Nearest: 64x72"):
        ONNX().lower(
            build("fp32")[0], backend="cpu", resolution=Resolution(64, 70), folder=tmp_path
        )


def test_a_static_recipe_that_quantized_nothing_is_refused(build: Build, tmp_path: Path) -> None:
    program = build("fp32")[0]
    untouched = FloatProgram(find_recipe("int8"), program.module())
    with pytest.raises(UnsupportedError, match="got 0 quantized of 37 convolutions"):
        ONNX().lower(untouched, backend="cpu", resolution=SIZE, folder=tmp_path)


def test_codes_read_by_another_operator_are_refused(build: Build) -> None:
    model = onnx.load(build("int8")[1].path)
    codes = next(node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear")
    model.graph.node.append(onnx.helper.make_node("Identity", [codes], ["leak"]))
    with pytest.raises(UnsupportedError, match="read by Identity"):
        unsigned_activations(model)
