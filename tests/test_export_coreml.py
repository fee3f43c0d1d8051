"""Core ML export: what the saved package says about itself, and what is refused."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfnet.artifact import Artifact
from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.manifest import TensorSpec
from dfnet.metrics import psnr_db
from dfnet.model import DFNet
from dfnet.profiles import Precision, Resolution
from dfnet.signature import INPUTS, OUTPUT, Feed
from export.convolutions import ConvolutionCount
from quantize.fuse import fuse
from quantize.program import Program
from quantize.ptq import FloatProgram
from quantize.recipe import find_recipe

import lowering

ct = pytest.importorskip("coremltools")

from coremltools.proto import MIL_pb2, Model_pb2  # noqa: E402

from export.coreml import CoreML  # noqa: E402
from export.coreml_check import Needed, check_structure  # noqa: E402
from export.coreml_structure import model_path, read_structure  # noqa: E402
from export.mil import Package  # noqa: E402
from export.sdk_program import SdkProgram  # noqa: E402

pytestmark = pytest.mark.coreml

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
            program = CoreML().quantize(network, find_recipe(recipe), calibration)
            built[recipe] = program, lower(program, tmp_path_factory.mktemp(recipe))
        return built[recipe]

    return make


def lower(program: Program, folder: Path) -> Artifact:
    return lowering.lower(
        CoreML(), program, folder, resolution=SIZE, backend="coreml", platform="ios"
    )


def needed(precision: Precision, *, quantized: int = 0) -> Needed:
    """What DFNet's program asks of a package, written out by hand."""
    return Needed(
        inputs=tuple(
            TensorSpec(spec.name, (1, spec.channels, 64, 64), "float32", "NCHW") for spec in INPUTS
        ),
        outputs=(TensorSpec(OUTPUT, (1, 3, 64, 64), "float32", "NCHW"),),
        specification_version=8,
        arithmetic="float32" if precision is Precision.FP32 else "float16",
        precision=precision,
        convolutions=ConvolutionCount(CONVOLUTIONS, quantized),
    )


@pytest.mark.parametrize(
    ("recipe", "arithmetic", "int8_weights", "int8_inputs"),
    [
        ("fp32", "float32", 0, 0),
        ("fp16", "float16", 0, 0),
        ("w8", "float16", CONVOLUTIONS, 0),
        ("int8", "float16", CONVOLUTIONS, CONVOLUTIONS),
        ("int8-full", "float16", CONVOLUTIONS + 1, CONVOLUTIONS + 1),
        ("sdk-default", "float16", CONVOLUTIONS, CONVOLUTIONS),
    ],
)
def test_every_convolution_has_the_recipe_s_number_format(
    recipe: str, arithmetic: str, int8_weights: int, int8_inputs: int, build: Build
) -> None:
    structure, total = read_structure(build(recipe)[1].path), lowering.convolutions(recipe)
    assert structure.convolutions.total == total
    assert structure.convolutions.dtypes == {arithmetic: total}
    assert structure.convolutions.int8_weights == int8_weights
    assert structure.convolutions.int8_inputs == int8_inputs
    assert structure.specification_version == 8
    assert structure.faults == ()


@pytest.mark.parametrize(("smaller", "larger"), [("fp16", "fp32"), ("w8", "fp16")])
def test_weights_shrink_with_their_type(smaller: str, larger: str, build: Build) -> None:
    few, many = (read_structure(build(recipe)[1].path) for recipe in (smaller, larger))
    assert few.weights_bytes < 0.6 * many.weights_bytes
    assert few.weights_sha256 != many.weights_sha256


def test_signature_is_the_network_s_in_float32(build: Build) -> None:
    manifest = build("int8")[1].manifest
    expected = needed(Precision.W8A8)
    assert manifest.inputs == expected.inputs
    assert manifest.outputs == expected.outputs


def test_manifest_says_what_is_not_known(build: Build) -> None:
    manifest = build("int8")[1].manifest
    assert manifest.delegation is None
    assert any("needs macOS" in note for note in manifest.notes)
    assert any("fp16 or w8" in note for note in manifest.notes)
    assert manifest.facts["structure"]["operators"]["quantize"] > 0


@pytest.mark.parametrize("recipe", ["fp32", "int8", "int8-full"])
def test_what_the_program_declares_float_is_told(recipe: str, build: Build) -> None:
    counts = build(recipe)[1].manifest.facts["computed_in_float"]
    assert counts.get("conv", 0) == (CONVOLUTIONS if recipe == "fp32" else 0)
    assert ("add" in counts) is (recipe != "int8-full")


def test_coremltools_reads_the_package(build: Build) -> None:
    spec = ct.utils.load_spec(str(build("w8")[1].path))
    assert [feature.name for feature in spec.description.input] == [spec.name for spec in INPUTS]


@pytest.mark.parametrize("recipe", ["int8", "sdk-default"])
def test_package_holds_nothing_but_the_model(recipe: str, build: Build) -> None:
    package = build(recipe)[1].path
    files = {p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file()}
    model = "Data/com.apple.CoreML"
    assert files == {"Manifest.json", f"{model}/model.mlmodel", f"{model}/weights/weight.bin"}


@pytest.mark.parametrize("recipe", ["fp16", "int8", "sdk-default"])
def test_equal_builds_have_equal_hashes(recipe: str, build: Build, tmp_path: Path) -> None:
    program, artifact = build(recipe)
    assert lower(program, tmp_path).manifest.artifact_sha256 == artifact.manifest.artifact_sha256


def test_the_sdk_s_own_int8_runs_with_symmetric_activations(build: Build, feed: Feed) -> None:
    program, artifact = build("sdk-default")
    assert isinstance(program, SdkProgram)
    opener, *_ = CoreML().executions(artifact, threads=1)
    with opener() as runner:
        picture = runner.infer(feed)[OUTPUT]
    assert 20 < psnr_db(lowering.simulate(program, feed), picture) < 100
    assert any("for comparison" in note for note in artifact.manifest.notes)
    # Ours is affine: its quantizers have zero points.
    ours, theirs = (zero_points(build(recipe)[1].path) for recipe in ("int8", "sdk-default"))
    assert ours > theirs == 0


def zero_points(package: Path) -> int:
    """How many activations are quantized with a zero point."""
    operations = Package(package).function().body.walk()
    return sum("zero_point" in o.inputs for o in operations if o.type == "quantize")


def test_the_sdk_s_own_int8_exists_at_the_captures_size_alone(build: Build, tmp_path: Path) -> None:
    program, _ = build("sdk-default")
    with pytest.raises(UnsupportedError, match="got 96x96, needed 64x64, the size of the calib"):
        CoreML().lower(program, backend="coreml", resolution=Resolution(96, 96), folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_check_accepts_what_was_built(build: Build) -> None:
    check_structure(read_structure(build("fp16")[1].path), needed(Precision.FP16))
    quantized = needed(Precision.W8A8, quantized=CONVOLUTIONS)
    check_structure(read_structure(build("int8")[1].path), quantized)


@pytest.mark.parametrize(
    ("recipe", "asked", "complaint"),
    [
        ("fp16", needed(Precision.FP32), "convolution types"),
        ("fp16", needed(Precision.W8), "int8 weights got 0, needed 37"),
        ("w8", needed(Precision.W8A8, quantized=CONVOLUTIONS), "int8 inputs got 0, needed 37"),
        ("int8", needed(Precision.FP16), "int8 weights got 37, needed 0"),
        ("int8", needed(Precision.W8A8), "no quantized convolution"),
        ("fp16", replace(needed(Precision.FP16), outputs=()), "outputs got"),
        ("fp16", replace(needed(Precision.FP16), specification_version=9), "specification got 8"),
    ],
)
def test_the_check_refuses_another_network(
    recipe: str, asked: Needed, complaint: str, build: Build
) -> None:
    structure = read_structure(build(recipe)[1].path)
    with pytest.raises(UnsupportedError, match=complaint):
        check_structure(structure, asked)


@pytest.fixture
def package(build: Build, tmp_path: Path) -> Path:
    """A copy of the int8 package, to be damaged."""
    copy = tmp_path / "copy.mlpackage"
    shutil.copytree(build("int8")[1].path, copy)
    return copy


def doctor(package: Path, change: Callable[[list[MIL_pb2.Operation]], None]) -> None:
    path = model_path(package)
    model = Model_pb2.Model()
    model.ParseFromString(path.read_bytes())
    ((_, block),) = model.mlProgram.functions["main"].block_specializations.items()
    change(block.operations)
    path.write_bytes(model.SerializeToString())


def test_a_convolution_fed_with_another_weight_is_noticed(package: Path) -> None:
    def use_bias_as_weight(operations: list[MIL_pb2.Operation]) -> None:
        conv = next(o for o in operations if o.type == "conv")
        conv.inputs["weight"].arguments[0].name = conv.inputs["bias"].arguments[0].name

    doctor(package, use_bias_as_weight)
    with pytest.raises(UnsupportedError, match="int8 weights got 36, needed 37"):
        check_structure(read_structure(package), needed(Precision.W8A8, quantized=CONVOLUTIONS))


def test_a_scale_of_zero_is_noticed(package: Path) -> None:
    def underflow(operations: list[MIL_pb2.Operation]) -> None:
        weights = next(o for o in operations if o.type == "constexpr_affine_dequantize")
        scale = weights.attributes["scale"].immediateValue.tensor.bytes
        scale.values = bytes(len(scale.values))

    doctor(package, underflow)
    with pytest.raises(UnsupportedError, match="the scale of .* is not positive"):
        check_structure(read_structure(package), needed(Precision.W8A8, quantized=CONVOLUTIONS))


def test_a_weight_that_is_not_finite_is_noticed(build: Build, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mlpackage"
    shutil.copytree(build("fp16")[1].path, copy)
    weights = model_path(copy).parent / "weights" / "weight.bin"
    data = bytearray(weights.read_bytes())
    data[128:130] = np.float16(np.inf).tobytes()
    weights.write_bytes(data)
    with pytest.raises(UnsupportedError, match="is not finite"):
        check_structure(read_structure(copy), needed(Precision.FP16))


@pytest.mark.parametrize("part", ["Manifest.json", "model.mlmodel", "weight.bin"])
@pytest.mark.parametrize("kept", [0.0, 0.6, 0.99])
def test_a_truncated_package_is_refused(part: str, kept: float, package: Path) -> None:
    (path,) = package.rglob(part)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ArtifactError, match="needed a whole ML program"):
        read_structure(package)


@pytest.mark.parametrize("part", ["Manifest.json", "model.mlmodel", "weight.bin"])
def test_a_package_without_a_part_is_refused(part: str, package: Path) -> None:
    (path,) = package.rglob(part)
    path.unlink()
    with pytest.raises(ArtifactError, match="needed a whole ML program"):
        read_structure(package)


def test_identifiers_come_from_paths(build: Build) -> None:
    first, second = (
        json.loads((build(recipe)[1].path / "Manifest.json").read_text())
        for recipe in ("fp16", "w8")
    )
    assert first == second


@pytest.mark.parametrize(
    ("recipe", "backend"), [("w8a16", "coreml"), ("fp16", "cpu"), ("fp16", "mps")]
)
def test_what_it_cannot_write_is_refused(
    recipe: str, backend: str, build: Build, tmp_path: Path
) -> None:
    program = FloatProgram(find_recipe(recipe), build("fp16")[0].module())
    with pytest.raises(UnsupportedError, match="Core ML export"):
        CoreML().lower(program, backend=backend, resolution=SIZE, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_odd_resolution_names_the_nearest(build: Build, tmp_path: Path) -> None:
    odd = Resolution(64, 70)
    with pytest.raises(UnsupportedError, match="Nearest: 64x72"):
        CoreML().lower(build("fp16")[0], backend="coreml", resolution=odd, folder=tmp_path)


@pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML runs here")
def test_off_macos_it_says_why_it_cannot_run(build: Build) -> None:
    artifact = build("fp16")[1]
    assert CoreML().cannot_run(artifact) == "needs macOS"
    with pytest.raises(UnsupportedError, match="needs macOS"):
        CoreML().open(artifact, threads=1)
