"""What every runtime promises, whatever its SDK: one suite over the table, and over the fake."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dfnet.artifact import Artifact
from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.metrics import psnr_db
from dfnet.model import DFNet
from dfnet.profiles import Precision, Resolution
from dfnet.signature import INPUTS, OUTPUT, Feed
from dfnet.torch_runner import TorchRunner
from export import load_runtime
from export.plan import Selection
from export.runtime import Runtime
from export.variants import PLATFORMS, RUNTIMES, Variant
from quantize.fuse import fuse
from quantize.program import Program
from quantize.recipe import find_recipe

from fakes import FAKE_ROW, FakeRuntime
from lowering import lower

ROOT = Path(__file__).resolve().parent.parent
SMALL = Resolution(64, 64)

MIN_PSNR_DB = {
    Precision.FP32: 90.0,
    Precision.FP16: 55.0,
    Precision.W8: 40.0,
    Precision.W8A8: 40.0,
    Precision.W8A16: 50.0,
}
"""Of the file against the program it was lowered from; rounding differs, arithmetic does not."""

USUAL = ("fp32", "fp16", "w8", "int8")

CASES = [
    pytest.param(
        key,
        variant,
        # Recipes beyond these go the same ways.
        marks=[getattr(pytest.mark, key), *([] if variant.recipe in USUAL else [pytest.mark.slow])],
        id=f"{key}-{variant.backend}-{variant.recipe}",
    )
    for key, row in RUNTIMES.items()
    for variant in row.variants
    if not variant.on_request
] + [
    pytest.param("fake", variant, id=f"fake-{variant.recipe}")
    for variant in FAKE_ROW.variants
    if not variant.on_request and variant.platform == "android"
]
KEYS = [
    *(pytest.param(key, marks=getattr(pytest.mark, key)) for key in RUNTIMES),
    pytest.param("fake"),
]

Lower = Callable[[str, Variant], tuple[Program, Artifact]]


def runtime_of(key: str) -> Runtime:
    return FakeRuntime() if key == "fake" else load_runtime(key)


@pytest.fixture
def program_of(
    tiny_network: DFNet, make_capture_set: Callable[..., CaptureSet]
) -> Callable[[Runtime, str], Program]:
    calibration = make_capture_set(Split.CALIBRATION, 8)
    capture = calibration.load(calibration.ids[0])
    fused = fuse(tiny_network, [capture.feed(capture.targets[0])])
    return lambda runtime, recipe: runtime.quantize(fused, find_recipe(recipe), calibration)


@pytest.fixture(scope="module")
def built() -> dict[tuple[str, Variant], tuple[Program, Artifact]]:
    """Files lowered once for all tests here."""
    return {}


@pytest.fixture
def lowered(
    built: dict[tuple[str, Variant], tuple[Program, Artifact]],
    program_of: Callable[[Runtime, str], Program],
    tmp_path_factory: pytest.TempPathFactory,
) -> Lower:
    def make(key: str, variant: Variant) -> tuple[Program, Artifact]:
        if (key, variant) not in built:
            runtime = runtime_of(key)
            program = program_of(runtime, variant.recipe)
            folder = tmp_path_factory.mktemp(key)
            built[key, variant] = (
                program,
                lower(
                    runtime,
                    program,
                    folder,
                    resolution=SMALL,
                    backend=variant.backend,
                    platform=variant.platform,
                ),
            )
        return built[key, variant]

    return make


@pytest.mark.parametrize(("key", "variant"), CASES)
def test_a_file_says_what_it_takes_and_gives(key: str, variant: Variant, lowered: Lower) -> None:
    _, artifact = lowered(key, variant)
    manifest = artifact.manifest
    assert {spec.name for spec in manifest.inputs} == {spec.name for spec in INPUTS}
    assert [spec.name for spec in manifest.outputs] == [OUTPUT]
    channels = {spec.name: spec.channels for spec in INPUTS} | {OUTPUT: 3}
    for spec in (*manifest.inputs, *manifest.outputs):
        nchw = (1, channels[spec.name], SMALL.height, SMALL.width)
        n, c, h, w = nchw
        assert spec.shape == {"NCHW": nchw, "NHWC": (n, h, w, c)}[spec.layout]
        assert (spec.scale is None) == spec.dtype.startswith("float")
    assert {path.name for path in artifact.folder.iterdir()} == {
        "manifest.json",
        manifest.artifact_file,
    }


@pytest.mark.parametrize(("key", "variant"), CASES)
def test_a_file_computes_what_its_program_computes(
    key: str, variant: Variant, lowered: Lower, feed: Feed
) -> None:
    program, artifact = lowered(key, variant)
    runtime = runtime_of(key)
    if reason := runtime.cannot_run(artifact):
        with pytest.raises(UnsupportedError, match=re.escape(reason)):
            runtime.open(artifact, threads=1)
        return
    before = {name: array.copy() for name, array in feed.items()}
    reference = TorchRunner(program.module()).infer(feed)[OUTPUT]
    with runtime.open(artifact, threads=1) as runner:
        first, second = runner.infer(feed), runner.infer(feed)
    assert set(first) == {OUTPUT}
    assert first[OUTPUT].dtype == np.float32
    assert first[OUTPUT].shape == reference.shape
    needed = MIN_PSNR_DB[program.recipe.precision]
    assert psnr_db(reference, first[OUTPUT]) >= needed
    np.testing.assert_array_equal(first[OUTPUT], second[OUTPUT], "the same input twice")
    for name, array in feed.items():
        np.testing.assert_array_equal(array, before[name], f"{name} was written to")


@pytest.mark.parametrize(("key", "variant"), CASES)
def test_no_convolution_is_left_to_a_fallback(key: str, variant: Variant, lowered: Lower) -> None:
    delegation = lowered(key, variant)[1].manifest.delegation
    if delegation is not None:
        assert delegation.undelegated_convolutions == 0
        assert delegation.delegate_calls >= 0
        assert delegation.placement


@pytest.mark.parametrize(("key", "variant"), CASES)
def test_memory_layout_and_threads_change_nothing(
    key: str, variant: Variant, lowered: Lower, feed: Feed
) -> None:
    _, artifact = lowered(key, variant)
    runtime = runtime_of(key)
    if runtime.cannot_run(artifact):
        pytest.skip(str(runtime.cannot_run(artifact)))
    channels_last = {
        name: np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        for name, array in feed.items()
    }
    with runtime.open(artifact, threads=1) as runner:
        plain, permuted = runner.infer(feed)[OUTPUT], runner.infer(channels_last)[OUTPUT]
    with runtime.open(artifact, threads=2) as runner:
        threaded = runner.infer(feed)[OUTPUT]
    np.testing.assert_array_equal(permuted, plain)
    np.testing.assert_allclose(threaded, plain, atol=1e-5)


@pytest.mark.parametrize(("key", "variant"), CASES)
def test_timing_keeps_every_sample_and_other_sizes_are_refused(
    key: str,
    variant: Variant,
    lowered: Lower,
    feed: Feed,
    make_capture_set: Callable[..., CaptureSet],
) -> None:
    _, artifact = lowered(key, variant)
    runtime = runtime_of(key)
    if runtime.cannot_run(artifact):
        pytest.skip(str(runtime.cannot_run(artifact)))
    captures = make_capture_set(Split.VALIDATION, 1, 72)
    larger = captures.load(captures.ids[0])
    with runtime.open(artifact, threads=1) as runner:
        timings = runner.time(feed, warmup=1, runs=3)
        with pytest.raises(UnsupportedError, match="64x64"):
            runner.infer(larger.feed(larger.targets[0]))
    assert len(timings.samples_ms) == 3
    assert min(timings.samples_ms) > 0
    assert timings.accelerator


@pytest.mark.parametrize("key", KEYS)
def test_an_unknown_backend_is_refused(
    key: str, program_of: Callable[[Runtime, str], Program], tmp_path: Path
) -> None:
    runtime = runtime_of(key)
    program = program_of(runtime, "fp32")
    with pytest.raises(UnsupportedError, match="abacus"):
        runtime.lower(program, backend="abacus", resolution=SMALL, folder=tmp_path)


@pytest.mark.parametrize("key", KEYS)
def test_a_damaged_file_is_one_clear_error(key: str, lowered: Lower, tmp_path: Path) -> None:
    variants = FAKE_ROW.variants if key == "fake" else RUNTIMES[key].variants
    _, artifact = lowered(key, next(v for v in variants if not v.on_request))
    runtime = runtime_of(key)
    if runtime.cannot_run(artifact):
        pytest.skip(str(runtime.cannot_run(artifact)))
    damaged = Artifact(tmp_path, artifact.manifest)
    damaged.path.write_bytes(artifact.path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=re.escape(str(damaged.path))):
        runtime.open(damaged, threads=1)


def test_the_suite_can_fail(lowered: Lower, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that is off by 30 dB is measured at 30 dB, below every bar."""
    monkeypatch.setattr(FakeRuntime, "error_db", 30.0)
    program, artifact = lowered("fake", FAKE_ROW.variants[0])
    reference = TorchRunner(program.module()).infer(feed)[OUTPUT]
    with FakeRuntime().open(artifact, threads=1) as runner:
        error = runner.infer(feed)[OUTPUT] - reference
    measured = psnr_db(np.full_like(error, 0.5), 0.5 + error)
    assert measured == pytest.approx(30.0, abs=0.01)
    assert measured < min(MIN_PSNR_DB.values())


def test_every_runtime_has_an_extra_a_marker_and_sound_variants() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    markers = {
        line.partition(":")[0] for line in project["tool"]["pytest"]["ini_options"]["markers"]
    }
    assert set(RUNTIMES) == set(extras) - {"dev"}
    assert set(RUNTIMES) <= markers
    for row in RUNTIMES.values():
        assert len(set(row.variants)) == len(row.variants)
        for variant in row.variants:
            find_recipe(variant.recipe)


def test_every_runtime_offers_its_sdk_s_own_int8_on_request_only() -> None:
    for key, row in RUNTIMES.items():
        (variant,) = (v for v in row.variants if find_recipe(v.recipe).by_sdk)
        assert variant.on_request, key
    usual = {job.variant.recipe for p in PLATFORMS for job in Selection(p, (SMALL,)).jobs()}
    assert "int8" in usual
    assert "sdk-default" not in usual


def test_every_direct_dependency_is_pinned_in_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pins = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", lock, re.MULTILINE))
    pins = {name.lower().replace("_", "-"): pin for name, pin in pins.items()}
    lines = [line for line in lock.splitlines() if line and not line.startswith("#")]
    assert len(pins) == len(lines), "every line pins one version"
    assert "+" not in pins["torch"], "a local version would not install elsewhere"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = (project["dependencies"], *project["optional-dependencies"].values())
    for requirement in (line for group in groups for line in group):
        name, operator, wanted = re.split(r"(==|>=)", requirement)
        assert name in pins, f"{name} is missing in requirements.lock"
        assert operator == ">=" or pins[name] == wanted
