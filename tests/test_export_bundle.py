"""Bundles: one file, a graph per resolution, weights stored once, judged at each resolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_benchmarks_rows import passing
from test_dfnet_artifact import MANIFEST

from benchmarks.device_choice import runnable
from benchmarks.rows import build_rows, float_sibling
from benchmarks.selection import read_artifacts
from dfnet.artifact import Artifact, bytes_of
from dfnet.capture import Image, Split
from dfnet.captureset import CaptureSet
from dfnet.checkpoint import Checkpoint
from dfnet.console import Progress
from dfnet.errors import UnsupportedError
from dfnet.manifest import EntryPoint, Manifest, TensorSpec
from dfnet.metrics import psnr_db
from dfnet.model import DFNet
from dfnet.profiles import Precision, Resolution
from dfnet.signature import OUTPUT, Feed
from dfnet.torch_runner import TorchRunner
from export import load_runtime
from export.bundle import lower_bundle
from export.pipeline import BuildRequest, build
from export.plan import Selection
from export.runtime import Runtime
from export.variants import RUNTIMES
from quantize.fuse import fuse
from quantize.recipe import find_recipe

from fakes import FAKE_ROW, FakeRuntime, use_fake_runtime
from lowering import described, lower

SMALL, TALL = Resolution(64, 64), Resolution(96, 64)
ANDROID = [
    pytest.param("litert", marks=pytest.mark.litert),
    pytest.param("executorch", marks=pytest.mark.executorch),
]
EVERYWHERE = [*ANDROID, pytest.param("coreml", marks=pytest.mark.coreml)]
CLOSE_DB = {"fp32": 90.0, "int8": 30.0}
"""Of the file against the trained network, which quantizing the tiny one moves much."""


def feed_at(feed: Feed, resolution: Resolution) -> Feed:
    """The 64x64 feed continued downwards."""
    rows = np.arange(resolution.height) % 64
    return {name: np.ascontiguousarray(array[:, :, rows]) for name, array in feed.items()}


@pytest.fixture
def bundled(
    tiny_network: DFNet, make_capture_set: Callable[..., CaptureSet], tmp_path: Path
) -> Callable[..., tuple[Path, Manifest]]:
    """``bundled(runtime, recipe)``: the output folder and the manifest of a bundle built in it."""

    def make(runtime: str, recipe: str, *, platform: Any = "android") -> tuple[Path, Manifest]:
        request = BuildRequest(
            Selection(platform, (SMALL, TALL), (runtime,), (recipe,), bundle=True),
            Checkpoint(tiny_network, "c" * 64, {}),
            make_capture_set(Split.CALIBRATION, 8),
            tmp_path / "artifacts",
        )
        (row,) = build(request, Progress()).rows
        assert row.artifact is not None, row.reason
        return request.output, row.artifact.manifest

    return make


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["fp32", "int8"])
@pytest.mark.parametrize("runtime", EVERYWHERE)
def test_a_bundle_computes_its_program_at_every_resolution(
    bundled: Callable[..., tuple[Path, Manifest]],
    runtime: str,
    recipe: str,
    tiny_network: DFNet,
    feed: Feed,
) -> None:
    output, manifest = bundled(
        runtime, recipe, platform="ios" if runtime == "coreml" else "android"
    )
    views = read_artifacts(output)
    assert [view.manifest.resolution for view in views] == [SMALL, TALL]
    assert len({view.id for view in views}) == 2
    assert {view.manifest.artifact_sha256 for view in views} == {manifest.artifact_sha256}
    reference = TorchRunner(tiny_network)
    loaded = load_runtime(runtime)
    for view in views:
        here = feed_at(feed, view.manifest.resolution)
        wanted = reference.infer(here)[OUTPUT]
        got = execute(loaded, view, here)
        assert got.shape == wanted.shape
        assert psnr_db(wanted, got) > CLOSE_DB[recipe]
    with pytest.raises(UnsupportedError, match="64x64"):
        execute(loaded, views[0], feed_at(feed, TALL))


@pytest.mark.parametrize("runtime", EVERYWHERE)
def test_weights_are_stored_once_and_singles_equal_the_bundle(
    runtime: str,
    tiny_network: DFNet,
    feed: Feed,
    make_capture_set: Callable[..., CaptureSet],
    tmp_path: Path,
) -> None:
    """Merging computes nothing: every output is bit for bit that of the single file."""
    loaded = load_runtime(runtime)
    calibration = make_capture_set(Split.CALIBRATION, 8)
    program = loaded.quantize(fuse(tiny_network, [feed]), find_recipe("fp32"), calibration)
    folder, backend = tmp_path / "bundle", "coreml" if runtime == "coreml" else "xnnpack"
    folder.mkdir()
    lowered = lower_bundle(loaded, program, backend, (SMALL, TALL), folder)
    bundle = described(loaded, program, lowered, folder, resolution=SMALL, backend=backend)
    assert {path.name for path in folder.iterdir()} == {lowered.file, "manifest.json"}
    sizes = lowered.facts["bundle"]
    assert sizes["constant_bytes"] <= 1.1 * max(sizes["single_constant_bytes"].values())
    assert sizes["bytes"] == bytes_of(bundle.path) < sum(sizes["single_bytes"].values())
    for resolution in (SMALL, TALL):
        own = tmp_path / str(resolution)
        own.mkdir()
        single = lower(loaded, program, own, resolution=resolution, backend=backend)
        assert sizes["single_bytes"][str(resolution)] == single.manifest.artifact_bytes
        here = feed_at(feed, resolution)
        np.testing.assert_array_equal(
            execute(loaded, bundle.at(resolution), here), execute(loaded, single, here)
        )


def execute(runtime: Runtime, artifact: Artifact, feed: Feed) -> Image:
    """The output of the first way this machine can execute the file."""
    with runtime.executions(artifact, threads=1)[0]() as runner:
        return runner.infer(feed)[OUTPUT]


def test_the_pipeline_writes_a_bundle_and_finds_it_again(
    tiny_network: DFNet,
    make_capture_set: Callable[..., CaptureSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_fake_runtime(monkeypatch)
    monkeypatch.setitem(RUNTIMES, "fake", replace(FAKE_ROW, bundles=("cpu",)))
    monkeypatch.setattr(FakeRuntime, "merge", _concatenate)
    monkeypatch.setattr(FakeRuntime, "constant_bytes", lambda self, path: path.stat().st_size)
    request = BuildRequest(
        Selection("android", (SMALL, TALL), recipes=("fp32",), bundle=True),
        Checkpoint(tiny_network, "c" * 64, {}),
        make_capture_set(Split.CALIBRATION, 1),
        tmp_path / "artifacts",
    )
    (row,) = build(request, Progress()).rows
    (again,) = build(request, Progress()).rows
    assert (row.status, again.status) == ("built", "reused")
    assert row.artifact is not None
    assert row.to_json()["resolution"] == "64x64+96x64"
    assert row.artifact.manifest.resolutions == (SMALL, TALL)
    assert row.artifact.manifest.facts["bundle"]["ratio"] == pytest.approx(2, abs=0.01)
    assert [one.id.partition("@")[2] for one in read_artifacts(request.output)] == [
        "64x64",
        "96x64",
    ]


def _concatenate(self: FakeRuntime, files: Mapping[str, Path], target: Path) -> None:
    target.write_bytes(b"".join(file.read_bytes() for file in files.values()))


def test_a_resolution_the_bundle_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(UnsupportedError, match="needed one of 64x64, 96x64"):
        a_bundle(Path("nowhere")).at(Resolution(128, 128))


def test_a_manifest_of_a_bundle_reads_back_and_every_view_states_its_own_shapes() -> None:
    manifest = a_bundle(Path("nowhere")).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.resolutions == (SMALL, TALL)
    tall = manifest.at(TALL)
    assert tall.entry == "refocus_96x64"
    assert tall.inputs[0].shape == (1, 3, 96, 64)
    assert tall.at(SMALL) == manifest


def test_rows_are_one_per_resolution_and_checks_of_one_are_not_the_others() -> None:
    views = a_bundle(Path("bundle")).views
    checks = [replace(passing(views[1]), entry=views[1].manifest.entry)]
    rows = build_rows(views, checks, [])
    assert [row.resolution for row in rows] == ["64x64", "96x64"]
    assert len({row.artifact_sha256 for row in rows}) == 1
    assert rows[0].checks["parity"]["outcome"] == "not run"
    assert rows[1].checks["parity"]["outcome"] == "passed"
    assert rows[0].latency_reason is not None
    assert "bundles are not timed" in rows[0].latency_reason


def test_size_is_compared_with_a_bundle_of_the_same_resolutions_only() -> None:
    bundle = a_bundle(Path("bundle"))
    single = Artifact(Path("single"), replace(bundle.manifest, entry=None, entry_points=()))
    assert float_sibling(bundle, [single]) is None
    assert float_sibling(single, [bundle, single]) == single


def test_native_runners_get_no_bundle() -> None:
    with pytest.raises(UnsupportedError, match="at one resolution"):
        runnable(a_bundle(Path("bundle")).views, None, fp16=False)


def test_a_bundle_of_one_resolution_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="needed several"):
        Selection("android", (SMALL, SMALL), bundle=True)


def test_runtimes_without_bundles_make_a_file_per_resolution() -> None:
    jobs = Selection("android", (SMALL, TALL), recipes=("int8",), bundle=True).jobs()
    sizes = [(job.runtime, job.sizes) for job in jobs]
    assert sorted(sizes) == [
        ("executorch", "64x64+96x64"),
        ("litert", "64x64+96x64"),
        ("onnx", "64x64"),
        ("onnx", "96x64"),
    ]
    (core_ml,) = Selection("ios", (SMALL, TALL), ("coreml",), ("int8",), bundle=True).jobs()
    assert core_ml.resolutions == (SMALL, TALL)
    separate = Selection("ios", (SMALL, TALL), ("coreml",), ("int8",)).jobs()
    assert [job.resolutions for job in separate] == [(SMALL,), (TALL,)]


def test_a_runtime_that_cannot_merge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_runtime(monkeypatch)
    with pytest.raises(UnsupportedError, match="hold no more"):
        load_runtime("fake").merge({}, Path("model"))


def a_bundle(folder: Path) -> Artifact:
    """A made-up fp32 bundle of two resolutions, at the first; nothing is on disk."""
    points = tuple(
        EntryPoint(
            f"refocus_{size}",
            size,
            (TensorSpec("wide", (1, 3, size.height, size.width), "float32", "NCHW"),),
            (TensorSpec(OUTPUT, (1, 3, size.height, size.width), "float32", "NCHW"),),
            None,
        )
        for size in (SMALL, TALL)
    )
    manifest = replace(
        MANIFEST,
        runtime="litert",
        platform="android",
        precision=Precision.FP32,
        resolution=SMALL,
        inputs=points[0].inputs,
        outputs=points[0].outputs,
        delegation=None,
        artifact_sha256="a" * 64,
        artifact_bytes=1,
        entry=points[0].name,
        entry_points=points,
    )
    return Artifact(folder, manifest)
