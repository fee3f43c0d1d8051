"""ExecuTorch export and its runner: parity with torch, delegation, memory format, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dfnet.artifact import Artifact, sha256_of
from dfnet.capture import Capture, Split
from dfnet.captureset import CaptureSet
from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.manifest import TensorSpec
from dfnet.metrics import psnr_db
from dfnet.model import DFNet
from dfnet.profiles import Precision, Resolution
from dfnet.signature import INPUTS, OUTPUT, Feed
from dfnet.tensors import example_inputs
from quantize.fuse import fuse
from quantize.program import Program
from quantize.ptq import FloatProgram
from quantize.recipe import find_recipe

from lowering import convolutions, infer, lower, mistuned, simulate

pytest.importorskip("executorch")

from executorch.backends.xnnpack.partition.config.gemm_configs import LinearConfig
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

import export.executorch as module
from export.executorch import ExecuTorch
from export.sdk_program import SdkProgram

pytestmark = pytest.mark.executorch

SIZE = Resolution(64, 64)
CONVOLUTIONS = 37
"""Of the fused DFNet, whatever its width, with one residual block per scale."""

Build = Callable[[str, str], tuple[Program, Artifact]]


@pytest.fixture(scope="module")
def programs() -> dict[str, Program]:
    return {}


@pytest.fixture(scope="module")
def artifacts() -> dict[tuple[str, str], Artifact]:
    return {}


@pytest.fixture
def build(
    programs: dict[str, Program],
    artifacts: dict[tuple[str, str], Artifact],
    tiny_network: DFNet,
    feed: Feed,
    make_capture_set: Callable[..., CaptureSet],
    tmp_path_factory: pytest.TempPathFactory,
) -> Build:
    """``build(backend, recipe)``: the program and its artifact, built once for this file."""

    def make(backend: str, recipe: str) -> tuple[Program, Artifact]:
        if recipe not in programs:
            calibration = make_capture_set(Split.CALIBRATION, 8)
            network = fuse(tiny_network, [feed])
            programs[recipe] = ExecuTorch().quantize(network, find_recipe(recipe), calibration)
        program = programs[recipe]
        if (backend, recipe) not in artifacts:
            folder = tmp_path_factory.mktemp(f"{backend}-{recipe}")
            artifacts[backend, recipe] = lower(
                ExecuTorch(), program, folder, resolution=SIZE, backend=backend
            )
        return program, artifacts[backend, recipe]

    return make


def test_float_file_matches_torch(build: Build, feed: Feed) -> None:
    program, artifact = build("xnnpack", "fp32")
    np.testing.assert_allclose(
        infer(ExecuTorch(), artifact, feed), simulate(program, feed), atol=1e-6
    )


@pytest.mark.parametrize("recipe", ["int8", "int8-full"])
def test_int8_file_matches_its_simulation(recipe: str, build: Build, feed: Feed) -> None:
    program, artifact = build("xnnpack", recipe)
    simulation = simulate(program, feed)
    candidate = infer(ExecuTorch(), artifact, feed)
    assert psnr_db(simulation, candidate) > 50
    # A control: with wrong scales the simulation is clearly something else.
    other = simulate(mistuned(program), feed)
    assert psnr_db(simulation, candidate) > psnr_db(simulation, other) + 3


def test_the_sdk_s_own_int8_is_another_file_and_runs(build: Build, feed: Feed) -> None:
    program, artifact = build("xnnpack", "sdk-default")
    assert isinstance(program, SdkProgram)
    candidate = infer(ExecuTorch(), artifact, feed)
    assert 20 < psnr_db(simulate(program, feed), candidate) < 100
    assert artifact.manifest.artifact_sha256 != build("xnnpack", "int8")[1].manifest.artifact_sha256
    assert any("for comparison" in note for note in artifact.manifest.notes)


@pytest.mark.parametrize(
    ("backend", "recipe"),
    [
        ("xnnpack", "fp32"),
        ("xnnpack", "int8"),
        ("xnnpack", "int8-full"),
        ("xnnpack", "sdk-default"),
        ("coreml", "int8"),
    ],
)
def test_the_whole_network_is_one_delegate_call(backend: str, recipe: str, build: Build) -> None:
    manifest = build(backend, recipe)[1].manifest
    delegation = manifest.delegation
    assert delegation is not None
    assert delegation.delegate_calls == 1
    assert delegation.undelegated_convolutions == 0
    assert set(delegation.placement) == {backend}
    taken, total = delegation.placement[backend], convolutions(recipe)
    assert sum(n for name, n in taken.items() if name.startswith("aten_conv")) == total
    quantized = 0 if recipe == "fp32" else total
    assert manifest.facts["program_convolutions"] == {"total": total, "quantized": quantized}


@pytest.mark.parametrize(
    ("backend", "recipe", "convolution", "picture"),
    [
        ("xnnpack", "fp32", "XNNConv2d", "XNNAdd"),
        ("xnnpack", "int8", "XNNConv2d", "XNNAdd"),
        ("xnnpack", "int8-full", "XNNConv2d", "XNNAdd"),
        ("coreml", "int8", "conv", "sub"),
    ],
)
def test_what_computes_in_float_is_told(
    backend: str, recipe: str, convolution: str, picture: str, build: Build
) -> None:
    counts = build(backend, recipe)[1].manifest.facts["computed_in_float"]
    assert counts.get(convolution, 0) == (CONVOLUTIONS if recipe == "fp32" else 0)
    assert (picture in counts) is (recipe != "int8-full")


class OnlyLinear:
    """XNNPACK's partitioner, told to take nothing the network has; the rest is the real one."""

    key = "xnnpack"
    precisions = (Precision.FP32,)
    notes = ()

    def partitioner(self, precision: Precision, *, by_sdk: bool) -> object:
        return XnnpackPartitioner(configs=[LinearConfig])

    def finish(self, program: object) -> dict[str, object]:
        return {}


def test_convolutions_left_out_of_the_delegate_are_counted(
    tiny_network: DFNet, feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_backend", lambda key: OnlyLinear())
    program = FloatProgram(find_recipe("fp32"), fuse(tiny_network, [feed]))
    delegation = lower(ExecuTorch(), program, tmp_path, resolution=SIZE).manifest.delegation
    assert delegation is not None
    assert delegation.undelegated_convolutions == CONVOLUTIONS


def test_parity_catches_channels_last_example_inputs(
    tiny_network: DFNet, feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why ``lower`` traces with contiguous inputs: these make a file that misreads them."""

    def channels_last(resolution: Resolution) -> tuple[torch.Tensor, ...]:
        images = example_inputs(resolution)
        return tuple(image.contiguous(memory_format=torch.channels_last) for image in images)

    monkeypatch.setattr(module, "example_inputs", channels_last)
    program = FloatProgram(find_recipe("fp32"), fuse(tiny_network, [feed]))
    artifact = lower(ExecuTorch(), program, tmp_path, resolution=SIZE)
    assert psnr_db(simulate(program, feed), infer(ExecuTorch(), artifact, feed)) < 25


def test_a_permuted_feed_is_read_right(build: Build, feed: Feed) -> None:
    program, artifact = build("xnnpack", "fp32")
    permuted = {
        name: np.ascontiguousarray(image.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        for name, image in feed.items()
    }
    np.testing.assert_allclose(
        infer(ExecuTorch(), artifact, permuted), simulate(program, feed), atol=1e-6
    )


def test_specs_state_what_the_file_has(build: Build) -> None:
    manifest = build("xnnpack", "int8")[1].manifest
    assert tuple(spec.name for spec in manifest.inputs) == tuple(spec.name for spec in INPUTS)
    assert manifest.inputs[0] == TensorSpec("wide", (1, 3, 64, 64), "float32", "NCHW")
    assert manifest.outputs == (TensorSpec(OUTPUT, (1, 3, 64, 64), "float32", "NCHW"),)


@pytest.mark.parametrize("recipe", ["fp16", "int8"])
def test_a_core_ml_file_holds_a_whole_package(recipe: str, build: Build) -> None:
    pytest.importorskip("coremltools")
    artifact = build("coreml", recipe)[1]
    (package,) = artifact.manifest.facts["coreml_packages"]
    assert package["operators"]["conv"] == CONVOLUTIONS
    assert package["weights_bytes"] > 0
    assert package["specification_version"] == 8
    # The list of the files inside is stored backwards.
    data = artifact.path.read_bytes()
    assert b"model.mlpackage"[::-1] in data
    assert b"executorch_debug_handle_mapping"[::-1] not in data
    assert b"debug_info.json"[::-1] not in data


def test_a_core_ml_file_needs_macos(build: Build) -> None:
    pytest.importorskip("coremltools")
    artifact = build("coreml", "int8")[1]
    if ExecuTorch().cannot_run(artifact) is None:
        pytest.skip("Core ML runs here")
    assert ExecuTorch().cannot_run(artifact) == "needs macOS"
    with pytest.raises(UnsupportedError, match="needs macOS"):
        ExecuTorch().open(artifact, threads=1)
    assert ExecuTorch().cannot_run(build("xnnpack", "fp32")[1]) is None


def test_another_size_is_refused(build: Build, make_capture: Callable[..., Capture]) -> None:
    capture = make_capture(0, size=72)
    with (
        ExecuTorch().open(build("xnnpack", "fp32")[1], threads=1) as runner,
        pytest.raises(UnsupportedError, match="72x72.*64x64"),
    ):
        runner.infer(capture.feed(capture.targets[0]))


def test_timing_keeps_every_sample_and_changes_nothing(build: Build, feed: Feed) -> None:
    _, artifact = build("xnnpack", "int8")
    with ExecuTorch().open(artifact, threads=1) as runner:
        before = runner.infer(feed)[OUTPUT]
        timings = runner.time(feed, warmup=1, runs=3)
        np.testing.assert_array_equal(runner.infer(feed)[OUTPUT], before)
    assert len(timings.samples_ms) == 3
    assert timings.accelerator == "XNNPACK"
    assert timings.load_ms > 0


def test_open_runners_share_one_number_of_threads(build: Build, feed: Feed) -> None:
    """Resizing the thread pool under a loaded method crashes the process."""
    _, artifact = build("xnnpack", "fp32")
    with ExecuTorch().open(artifact, threads=2) as first:
        with ExecuTorch().open(artifact, threads=2) as second:
            np.testing.assert_array_equal(first.infer(feed)[OUTPUT], second.infer(feed)[OUTPUT])
        with pytest.raises(UnsupportedError, match="got 1 threads while a runner with 2 is open"):
            ExecuTorch().open(artifact, threads=1)
    with ExecuTorch().open(artifact, threads=1) as runner:
        runner.infer(feed)


def damaged(artifact: Artifact, folder: Path, data: bytes) -> Artifact:
    """A copy of ``artifact`` with other bytes, whose manifest nevertheless names them."""
    path = folder / artifact.manifest.artifact_file
    path.write_bytes(data)
    return Artifact(folder, replace(artifact.manifest, artifact_sha256=sha256_of(path)))


@pytest.mark.parametrize("keep", [0, 100, 30_000])
def test_a_truncated_file_is_an_artifact_error(keep: int, build: Build, tmp_path: Path) -> None:
    artifact = build("xnnpack", "fp32")[1]
    with pytest.raises(ArtifactError, match="ExecuTorch cannot load it"):
        ExecuTorch().open(damaged(artifact, tmp_path, artifact.path.read_bytes()[:keep]), threads=1)


def test_an_altered_file_is_an_artifact_error(build: Build, tmp_path: Path) -> None:
    artifact = build("xnnpack", "fp32")[1]
    (tmp_path / artifact.path.name).write_bytes(artifact.path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="sha256"):
        ExecuTorch().open(Artifact(tmp_path, artifact.manifest), threads=1)


@pytest.mark.parametrize(
    ("recipe", "backend", "message"),
    [
        ("fp16", "xnnpack", "needed one of fp32, w8a8"),
        ("w8", "coreml", "needed one of fp32, fp16, w8a8"),
        ("fp32", "vulkan", "Choose one of xnnpack, coreml"),
    ],
)
def test_an_unavailable_recipe_or_backend_is_refused(
    recipe: str, backend: str, message: str, tiny_network: DFNet, tmp_path: Path
) -> None:
    if backend == "coreml":
        pytest.importorskip("coremltools")
    program = FloatProgram(find_recipe(recipe), tiny_network)
    with pytest.raises(UnsupportedError, match=message):
        ExecuTorch().lower(program, backend=backend, resolution=SIZE, folder=tmp_path)
