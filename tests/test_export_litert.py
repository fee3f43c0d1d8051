"""LiteRT export and its runner: parity with torch, int8 operators, delegation, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dfnet.artifact import Artifact, sha256_of
from dfnet.capture import Capture, Split
from dfnet.captureset import CaptureSet
from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.manifest import TensorSpec
from dfnet.metrics import psnr_db
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from dfnet.signature import INPUTS, OUTPUT, Feed
from quantize.fuse import fuse
from quantize.program import Program
from quantize.ptq import FloatProgram, quantize
from quantize.recipe import RECIPES, find_recipe

from lowering import convolutions, infer, lower, mistuned, simulate
from small_networks import SmallNetwork

pytest.importorskip("litert_torch")
pytest.importorskip("ai_edge_quantizer")

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from export.litert import LiteRT
from export.litert_graph import read_delegation, read_operators
from export.litert_runner import from_stored, to_stored
from export.sdk_program import SdkProgram

pytestmark = pytest.mark.litert

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
            runtime = LiteRT()
            program = runtime.quantize(fuse(tiny_network, [feed]), find_recipe(recipe), calibration)
            folder = tmp_path_factory.mktemp(recipe)
            built[recipe] = program, lower(runtime, program, folder, resolution=SIZE)
        return built[recipe]

    return make


def test_float_file_matches_torch(build: Build, feed: Feed) -> None:
    program, artifact = build("fp32")
    np.testing.assert_allclose(infer(LiteRT(), artifact, feed), simulate(program, feed), atol=1e-6)


@pytest.mark.parametrize("recipe", ["int8", "int8-full"])
def test_int8_file_matches_its_simulation(recipe: str, build: Build, feed: Feed) -> None:
    program, artifact = build(recipe)
    simulation = simulate(program, feed)
    assert psnr_db(simulation, infer(LiteRT(), artifact, feed)) > 50
    # A control: with wrong scales the simulation is clearly something else.
    other = simulate(mistuned(program), feed)
    assert psnr_db(simulation, infer(LiteRT(), artifact, feed)) > psnr_db(simulation, other) + 3


def test_half_size_weights_compute_what_half_rounded_weights_compute(
    build: Build, feed: Feed
) -> None:
    program, artifact = build("fp16")
    rounded = program.module()
    with torch.no_grad():
        for module in rounded.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_(module.weight.half().float())
    expected = simulate(FloatProgram(program.recipe, rounded), feed)
    np.testing.assert_allclose(infer(LiteRT(), artifact, feed), expected, atol=1e-6)
    # A control: rounding the weights shows.
    assert np.abs(infer(LiteRT(), artifact, feed) - simulate(program, feed)).max() > 3e-6
    assert artifact.manifest.artifact_bytes < build("fp32")[1].manifest.artifact_bytes
    assert any("float16" in note for note in artifact.manifest.notes)


def test_int16_activations_stay_near_the_float_network(build: Build, feed: Feed) -> None:
    program, artifact = build("w8a16")
    assert psnr_db(simulate(program, feed), infer(LiteRT(), artifact, feed)) > 60
    operators = artifact.manifest.facts["operators"]
    assert operators["CONV_2D int16"] == CONVOLUTIONS
    assert program.calibration is not None
    assert min(program.calibration.target_kinds.values()) > 0
    assert artifact.manifest.delegation is not None
    assert artifact.manifest.delegation.undelegated_convolutions == CONVOLUTIONS


def test_int16_ranges_serve_another_size(
    build: Build, make_capture: Callable[..., Capture], tmp_path: Path
) -> None:
    program, _ = build("w8a16")
    artifact = lower(LiteRT(), program, tmp_path, resolution=Resolution(96, 96))
    capture = make_capture(1, size=96)
    feed = capture.feed(capture.targets[1])
    assert psnr_db(simulate(program, feed), infer(LiteRT(), artifact, feed)) > 60


def test_the_sdk_s_own_int8_runs_and_is_int8_throughout(build: Build, feed: Feed) -> None:
    program, artifact = build("sdk-default")
    assert isinstance(program, SdkProgram)
    assert 20 < psnr_db(simulate(program, feed), infer(LiteRT(), artifact, feed)) < 100
    manifest = artifact.manifest
    assert manifest.facts["operators"]["CONV_2D int8"] == CONVOLUTIONS
    # Ours keeps the pictures and their sum float.
    assert {spec.dtype for spec in (*manifest.inputs, *manifest.outputs)} == {"int8"}
    assert not any("float32" in name for name in manifest.facts["operators"])
    assert manifest.facts["computed_in_float"] == {}
    assert any("for comparison" in note for note in manifest.notes)


def test_the_sdk_s_own_ranges_serve_another_size(
    build: Build, make_capture: Callable[..., Capture], tmp_path: Path
) -> None:
    program, _ = build("sdk-default")
    artifact = lower(LiteRT(), program, tmp_path, resolution=Resolution(96, 96))
    capture = make_capture(1, size=96)
    feed = capture.feed(capture.targets[1])
    assert 20 < psnr_db(simulate(program, feed), infer(LiteRT(), artifact, feed)) < 100


def test_which_recipes_it_quantizes_itself() -> None:
    own = [name for name in RECIPES if LiteRT().quantizes_itself(find_recipe(name))]
    assert own == ["w8a16", "sdk-default"]


@pytest.mark.parametrize("recipe", ["int8", "int8-full"])
def test_every_convolution_is_int8_and_delegated(recipe: str, build: Build) -> None:
    manifest, total = build(recipe)[1].manifest, convolutions(recipe)
    assert manifest.facts["float_convolutions"] == 0
    assert (manifest.facts["computed_in_float"] == {}) is (recipe == "int8-full")
    assert manifest.facts["operators"]["CONV_2D int8"] == total
    assert manifest.delegation is not None
    assert manifest.delegation.undelegated_convolutions == 0
    assert manifest.delegation.placement["xnnpack"]["CONV_2D"] == total


def test_a_float_file_is_one_delegate_call(build: Build) -> None:
    delegation = build("fp32")[1].manifest.delegation
    assert delegation is not None
    assert delegation.delegate_calls == 1
    assert set(delegation.placement) == {"xnnpack"}


def test_a_convolution_left_out_of_the_delegate_is_counted(build: Build) -> None:
    model = build("fp32")[1].path.read_bytes()
    # No delegate at all, as if XNNPACK knew none of the operators.
    interpreter = Interpreter(
        model_content=model,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    delegation = read_delegation(interpreter, read_operators(model))
    assert delegation.undelegated_convolutions == CONVOLUTIONS
    assert delegation.delegate_calls == 0


def test_specs_state_what_the_file_has(build: Build) -> None:
    manifest = build("int8")[1].manifest
    specs = {spec.name: spec for spec in manifest.inputs}
    assert tuple(specs) == tuple(spec.name for spec in INPUTS)
    assert specs["wide"] == TensorSpec("wide", (1, 3, 64, 64), "float32", "NCHW")
    assert specs["defocus_target"].dtype == "int8"
    assert specs["defocus_target"].scale == pytest.approx(1 / 255)
    assert specs["defocus_target"].zero_point == -128
    assert manifest.outputs == (TensorSpec(OUTPUT, (1, 3, 64, 64), "float32", "NCHW"),)


def test_integers_on_the_way_in_and_out() -> None:
    spec = TensorSpec("occlusion", (1, 1, 1, 4), "int8", "NCHW", 1 / 255, -128)
    real = np.array([[[[0, 1, 2, 100 / 255]]]], np.float32)
    stored = to_stored(real, spec)
    assert stored.dtype == np.int8
    np.testing.assert_array_equal(stored, [[[[-128, 127, 127, -28]]]])
    np.testing.assert_allclose(from_stored(stored, spec), np.minimum(real, 1), atol=1e-6)


class Mirrored(nn.Module):
    """``1 - relu(conv(x))``, which litert-torch 0.10.0 turns into its negative without a word."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return 1 - torch.relu(self.conv(inputs[0])) + 0 * sum(x.mean() for x in inputs)


def test_parity_catches_a_miscompiled_subtraction(feed: Feed, tmp_path: Path) -> None:
    program = FloatProgram(find_recipe("fp32"), Mirrored().eval())
    artifact = lower(LiteRT(), program, tmp_path, resolution=SIZE)
    assert psnr_db(simulate(program, feed), infer(LiteRT(), artifact, feed)) < 10


class Shared(SmallNetwork):
    """A convolution's result is read as it is and through a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lift, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

    def restore(self, wide: torch.Tensor, ultrawide: torch.Tensor) -> torch.Tensor:
        features = self.lift(wide)
        restored: torch.Tensor = ultrawide + self.head(features + torch.relu(features))
        return restored


def test_a_relu_of_a_tensor_that_is_int8_already_still_clamps(
    feed: Feed, tmp_path: Path, make_capture_set: Callable[..., CaptureSet]
) -> None:
    calibration = make_capture_set(Split.CALIBRATION, 16)
    program = quantize(Shared().eval(), find_recipe("int8-naive"), calibration)
    artifact = lower(LiteRT(), program, tmp_path, resolution=SIZE)
    assert psnr_db(simulate(program, feed), infer(LiteRT(), artifact, feed)) > 50


def test_another_size_is_refused(build: Build, make_capture: Callable[..., Capture]) -> None:
    capture = make_capture(0, size=72)
    with (
        LiteRT().open(build("fp32")[1], threads=1) as runner,
        pytest.raises(UnsupportedError, match="72x72.*64x64"),
    ):
        runner.infer(capture.feed(capture.targets[0]))


def test_timing_keeps_every_sample_and_changes_nothing(build: Build, feed: Feed) -> None:
    _, artifact = build("int8")
    with LiteRT().open(artifact, threads=1) as runner:
        before = runner.infer(feed)[OUTPUT]
        timings = runner.time(feed, warmup=1, runs=3)
        np.testing.assert_array_equal(runner.infer(feed)[OUTPUT], before)
    assert len(timings.samples_ms) == 3
    assert timings.accelerator == "XNNPACK"
    assert timings.load_ms > 0


def damaged(artifact: Artifact, folder: Path, data: bytes) -> Artifact:
    """A copy of ``artifact`` with other bytes, whose manifest nevertheless names them."""
    path = folder / artifact.manifest.artifact_file
    path.write_bytes(data)
    return Artifact(folder, replace(artifact.manifest, artifact_sha256=sha256_of(path)))


@pytest.mark.parametrize("keep", [0, 100, 30_000])
def test_a_truncated_file_is_an_artifact_error(keep: int, build: Build, tmp_path: Path) -> None:
    artifact = build("fp32")[1]
    with pytest.raises(ArtifactError, match="LiteRT cannot load it"):
        LiteRT().open(damaged(artifact, tmp_path, artifact.path.read_bytes()[:keep]), threads=1)


def test_an_altered_file_is_an_artifact_error(build: Build, tmp_path: Path) -> None:
    artifact = build("fp32")[1]
    (tmp_path / artifact.path.name).write_bytes(artifact.path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="sha256"):
        LiteRT().open(Artifact(tmp_path, artifact.manifest), threads=1)


@pytest.mark.parametrize(("recipe", "backend"), [("w8", "xnnpack"), ("fp32", "gpu")])
def test_an_unavailable_recipe_or_backend_is_refused(
    recipe: str, backend: str, tiny_network: DFNet, tmp_path: Path
) -> None:
    program = FloatProgram(find_recipe(recipe), tiny_network)
    with pytest.raises(UnsupportedError, match="needed 'xnnpack' and one of fp32, fp16"):
        LiteRT().lower(program, backend=backend, resolution=SIZE, folder=tmp_path)
