"""Files for apps: bytes in, bytes out, and nothing but rounding between them and the float file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from dfnet.artifact import Artifact
from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from dfnet.signature import INPUTS, OUTPUT, Feed
from export import load_runtime
from export.app_io import AppProgram, BytePictures
from export.runtime import Runtime
from export.stored import SCALE, byte_spec, from_stored, to_stored
from export.variants import RUNTIMES
from quantize.fuse import fuse
from quantize.program import Program
from quantize.recipe import APP, find_recipe

from lowering import lower

SMALL = Resolution(64, 64)
EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "apps"
SLOW = [pytest.mark.slow]
CASES = [
    pytest.param(
        key, backend, recipe, marks=[getattr(pytest.mark, key), *more], id=f"{key}-{recipe}"
    )
    for key, backend, recipe, more in (
        ("litert", "xnnpack", "fp32", SLOW),
        ("litert", "xnnpack", "int8", SLOW),
        ("litert", "xnnpack", "int8-full", SLOW),
        ("executorch", "xnnpack", "fp32", SLOW),
        ("executorch", "xnnpack", "int8", SLOW),
        ("onnx", "cpu", "fp32", []),
        ("onnx", "cpu", "int8", SLOW),
        ("coreml", "coreml", "fp16", SLOW),
        ("coreml", "coreml", "int8", SLOW),
    )
]
RUNTIME_CASES = [
    pytest.param(key, RUNTIMES[key].variants[0].backend, marks=getattr(pytest.mark, key))
    for key in RUNTIMES
]


class Overshooting(nn.Module):
    """1.5 times the wide picture less a quarter: far beyond [0, 1] on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(sum(spec.channels for spec in INPUTS), 3, 1)
        with torch.no_grad():
            self.mix.weight.zero_()
            self.mix.weight[:, :3, 0, 0] = 1.5 * torch.eye(3)
            self.mix.bias.fill_(-0.25)  # type: ignore[union-attr]

    def forward(self, *pictures: Tensor) -> Tensor:
        mixed: Tensor = self.mix(torch.cat(pictures, 1))
        return mixed


def infer(runtime: Runtime, artifact: Artifact, feed: Feed) -> npt.NDArray[np.float32]:
    opener = runtime.executions(artifact, threads=1)[0]
    with opener() as runner:
        return runner.infer(feed)[OUTPUT]


def levels(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.rint(np.clip(picture, 0, 1) * 255)


def as_app(program: Program) -> AppProgram:
    return AppProgram(program, find_recipe(program.recipe.name + APP))


@pytest.mark.parametrize(("key", "backend", "recipe"), CASES)
def test_bytes_give_what_floats_give_within_one_level(
    key: str,
    backend: str,
    recipe: str,
    tiny_network: DFNet,
    make_capture_set: Callable[..., CaptureSet],
    tmp_path: Path,
) -> None:
    runtime = load_runtime(key)
    calibration = make_capture_set(Split.CALIBRATION, 8)
    capture = calibration.load(calibration.ids[0])
    feed = capture.feed(capture.targets[0])
    program = runtime.quantize(fuse(tiny_network, [feed]), find_recipe(recipe), calibration)
    files = {}
    for name, one in (("float", program), ("bytes", as_app(program))):
        (tmp_path / name).mkdir()
        files[name] = lower(runtime, one, tmp_path / name, resolution=SMALL, backend=backend)
    app = files["bytes"].manifest
    for spec in (*app.inputs, *app.outputs):
        channels = dict.fromkeys(("wide", "ultrawide", OUTPUT), 3).get(spec.name, 1)
        assert (spec.dtype, spec.layout, spec.shape) == ("uint8", "NHWC", (1, 64, 64, channels))
        assert spec.scale == pytest.approx(SCALE)
        assert spec.zero_point == 0
    assert files["float"].manifest.inputs[0].dtype != "uint8"
    expected, got = (infer(runtime, files[name], feed) for name in ("float", "bytes"))
    np.testing.assert_allclose(levels(got), 255 * got, atol=1e-3)
    off = np.abs(levels(expected) - levels(got))
    assert off.max() <= 1
    # float16 moves one pixel in thirty over an edge between levels, everything else hardly any.
    assert np.mean(off > 0) < (0.1 if key == "coreml" else 0.01)


@pytest.mark.parametrize(("key", "backend"), RUNTIME_CASES)
def test_what_leaves_the_range_is_clipped_and_never_wraps_around(
    key: str, backend: str, make_capture_set: Callable[..., CaptureSet], tmp_path: Path
) -> None:
    runtime = load_runtime(key)
    calibration = make_capture_set(Split.CALIBRATION, 1)
    capture = calibration.load(calibration.ids[0])
    feed = capture.feed(capture.targets[0])
    ramp = np.linspace(0, 1, feed["wide"].size, dtype=np.float32).reshape(1, 3, 64, 64)
    feed = {name: levels(image) / np.float32(255) for name, image in {**feed, "wide": ramp}.items()}
    program = as_app(runtime.quantize(Overshooting().eval(), find_recipe("fp32"), calibration))
    artifact = lower(runtime, program, tmp_path, resolution=SMALL, backend=backend)
    expected = levels(feed["wide"] * np.float32(1.5) - np.float32(0.25))
    assert (expected.min(), expected.max()) == (0, 255)
    assert np.abs(levels(infer(runtime, artifact, feed)) - expected).max() <= 1


class Brighter(nn.Module):
    """The wide picture and a number of levels."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, wide: Tensor, *others: Tensor) -> Tensor:
        return wide + self.by / 255


@pytest.mark.parametrize(
    ("faulty", "by", "off"),
    [
        (lambda picture: torch.clamp(picture, 0, 1) * 255, 0.9, 1),
        (lambda picture: picture * 255 + 0.5, 156, 255),
    ],
    ids=["cuts instead of rounding", "does not clip"],
)
def test_a_graph_that_rounds_wrongly_is_seen(
    faulty: Callable[[Tensor], Tensor], by: float, off: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: what the tests above would meet."""
    pictures = [torch.full((1, 8, 8, spec.channels), 100, dtype=torch.uint8) for spec in INPUTS]
    right = BytePictures(Brighter(by))(*pictures)
    monkeypatch.setattr("export.app_io.levels_of", faulty)
    wrong = BytePictures(Brighter(by))(*pictures)
    assert int((right.int() - wrong.int()).abs().max()) == off


def test_a_byte_is_stored_as_it_was_read(feed: Feed) -> None:
    for name, image in feed.items():
        spec = byte_spec(name, (1, 64, 64, image.shape[1]))
        stored = to_stored(image, spec)
        assert stored.dtype == np.uint8
        assert stored.shape == spec.shape
        np.testing.assert_allclose(from_stored(stored, spec), image, atol=1e-6)
        assert np.array_equal(to_stored(from_stored(stored, spec), spec), stored)


def test_a_recipe_for_apps_computes_what_another_one_says() -> None:
    app = find_recipe("int8" + APP)
    assert app.app_io
    assert app.of_program is find_recipe("int8")
    assert find_recipe("int8").of_program is find_recipe("int8")


@pytest.mark.litert
def test_the_examples_name_what_the_files_take(
    make_capture_set: Callable[..., CaptureSet], tmp_path: Path
) -> None:
    runtime = load_runtime("litert")
    calibration = make_capture_set(Split.CALIBRATION, 1)
    program = as_app(runtime.quantize(Overshooting().eval(), find_recipe("fp32"), calibration))
    manifest = lower(runtime, program, tmp_path, resolution=SMALL).manifest
    names = [spec.name for spec in (*manifest.inputs, *manifest.outputs)]
    channels = [spec.shape[-1] for spec in manifest.inputs]
    kotlin, swift = (
        (EXAMPLES / name).read_text(encoding="utf-8") for name in ("Refocus.kt", "Refocus.swift")
    )
    assert re.findall(r'"([a-z_]+)" to ', kotlin) == names
    assert re.findall(r'featureValue\(for: "([a-z_]+)"', swift) == names[-1:]
    assert re.findall(r'"([a-z_]+)": MLFeatureValue', swift) == names[:-1]
    by_position = re.findall(r"tensor\(pictures\.(\w+), (\d)\)", kotlin)
    assert [
        re.sub("[A-Z]", lambda m: f"_{m[0].lower()}", name) for name, _ in by_position
    ] == names[:-1]
    assert [int(count) for _, count in by_position] == channels
