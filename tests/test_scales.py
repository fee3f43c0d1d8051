"""One calibrated graph for every runtime: its scales in all four files, tensor by tensor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dfnet.artifact import Artifact
from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from dfnet.signature import Feed
from export import load_runtime
from export.mil import Package
from export.mil_scales import read_scales as read_program
from export.scales import Quantization
from export.scales_check import compare_scales, match_convolutions
from export.scales_graph import read_graph
from export.variants import Platform
from quantize.fuse import fuse
from quantize.observers import activations
from quantize.ptq import StaticProgram, quantize
from quantize.recipe import find_recipe

import lowering

SIZE = Resolution(64, 64)
CONVOLUTIONS = 37
"""Of the fused DFNet, of which a recipe may keep a few heads float."""


@dataclass(frozen=True)
class Kind:
    """A file to make of the program, and what is known to be different in it."""

    runtime: str
    backend: str
    platform: Platform
    differences: tuple[str, ...] = ()


MOVED = "4 int8 sums: coremltools divided the scales"
HALF = "Scales are stored as float16"
KINDS = {
    # litert-torch pools the occlusion mask after its quantization to the pooled mask's range.
    "litert": Kind("litert", "xnnpack", "android", ("occlusion: requantized",)),
    "executorch": Kind("executorch", "xnnpack", "android"),
    "coreml": Kind("coreml", "coreml", "ios", (MOVED, HALF)),
    "onnx": Kind("onnx", "cpu", "android"),
    "executorch-coreml": Kind("executorch", "coreml", "ios", (MOVED, HALF)),
}
FOUR = tuple(name for name in KINDS if name != "executorch-coreml")
ALL = [pytest.param(name, marks=getattr(pytest.mark, kind.runtime)) for name, kind in KINDS.items()]
SLOW = ("litert", "executorch", "executorch-coreml")
"""Made a second time in the long run only."""
RELOWERED = [
    pytest.param(
        name,
        marks=[getattr(pytest.mark, kind.runtime), *([pytest.mark.slow] if name in SLOW else [])],
    )
    for name, kind in KINDS.items()
]

Scales = Callable[[str], Quantization]


def lower(name: str, program: StaticProgram, folder: Path) -> Artifact:
    kind = KINDS[name]
    return lowering.lower(
        load_runtime(kind.runtime),
        program,
        folder,
        resolution=SIZE,
        backend=kind.backend,
        platform=kind.platform,
    )


def read(artifact: Artifact) -> Quantization:
    """The scales in the file itself."""
    runtime = artifact.manifest.runtime
    if runtime == "litert":
        from export.litert_scales import read_scales as read_litert

        return read_litert(artifact.path.read_bytes())
    if runtime == "executorch":
        from export.executorch_scales import read_scales as read_executorch

        return read_executorch(artifact.path.read_bytes())
    if runtime == "onnx":
        import onnx

        from export.onnx_scales import read_scales as read_onnx

        return read_onnx(onnx.load(artifact.path).graph)
    return read_program(Package(artifact.path).function())


@dataclass
class Built:
    """What is made once for this file."""

    program: StaticProgram
    artifacts: dict[str, Artifact]


@pytest.fixture(scope="module")
def cache() -> list[Built]:
    return []


@pytest.fixture
def built(
    cache: list[Built],
    tiny_network: DFNet,
    feed: Feed,
    make_capture_set: Callable[..., CaptureSet],
) -> Built:
    if not cache:
        calibration = make_capture_set(Split.CALIBRATION, 8)
        program = quantize(fuse(tiny_network, [feed]), find_recipe("int8"), calibration)
        assert isinstance(program, StaticProgram)
        cache.append(Built(program, {}))
    return cache[0]


@pytest.fixture
def file(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    """``file(name)``: the artifact of one of ``KINDS``."""

    def make(name: str) -> Artifact:
        if name not in built.artifacts:
            built.artifacts[name] = lower(name, built.program, tmp_path_factory.mktemp(name))
        return built.artifacts[name]

    return make


@pytest.fixture
def graph(built: Built) -> Quantization:
    found = read_graph(built.program.module())
    assert CONVOLUTIONS - 4 <= len(found.convolutions) <= CONVOLUTIONS
    return found


@pytest.mark.parametrize("name", ALL)
def test_every_convolution_of_a_file_has_the_graph_s_scales(
    name: str, file: Callable[[str], Artifact], graph: Quantization
) -> None:
    report = compare_scales(graph, read(file(name)))
    assert report.compared == report.equal == len(graph.convolutions)
    told = {
        next((k for k in KINDS[name].differences if d.startswith(k)), d): d
        for d in report.differences
    }
    assert tuple(told) == KINDS[name].differences


@pytest.mark.parametrize("name", ALL)
def test_the_manifest_says_what_differs(
    name: str, file: Callable[[str], Artifact], graph: Quantization
) -> None:
    manifest = file(name).manifest
    assert manifest.facts["scales"] == {
        "compared": len(graph.convolutions),
        "equal": len(graph.convolutions),
        "differences": list(compare_scales(graph, read(file(name))).differences),
    }
    # Pooled, the tiny captures' mask reaches one half; the file halves it before it pools.
    clips = [note.partition(":")[0] for note in manifest.notes if " clips " in note]
    assert clips == (["occlusion"] if name == "litert" else [])


@pytest.mark.coreml
@pytest.mark.litert
@pytest.mark.executorch
@pytest.mark.onnx
def test_all_four_files_hold_the_same_numbers(
    file: Callable[[str], Artifact], graph: Quantization
) -> None:
    files = {name: match_convolutions(graph, read(file(name))) for name in FOUR}
    compared = 0
    for place, ours in enumerate(graph.convolutions):
        for name, convolutions in files.items():
            theirs = convolutions[place]
            where = f"{ours.name} in {name}"
            assert theirs is not None, where
            assert ours.output is not None
            assert theirs.output is not None, where
            assert theirs.codes == ours.codes, where
            assert theirs.weight.equals(ours.weight), where
            assert theirs.input.equals(ours.input), where
            assert theirs.output.equals(ours.output), where
            compared += 1
    assert compared == len(graph.convolutions) * len(FOUR)


@pytest.mark.parametrize("name", ALL)
def test_the_scales_are_not_all_alike(
    name: str, file: Callable[[str], Artifact], graph: Quantization
) -> None:
    """A control: every convolution is told from every other by its codes, most by its scales."""
    found, count = read(file(name)), len(graph.convolutions)
    assert len({one.codes for one in found.convolutions}) == count
    assert len({one.input.scale for one in found.convolutions}) > count / 2
    backwards = tuple(reversed(graph.convolutions))
    assert compare_scales(replace(graph, convolutions=backwards), found).equal == count
    mixed = tuple(
        replace(one, codes=other.codes)
        for one, other in zip(graph.convolutions, backwards, strict=True)
    )
    assert compare_scales(replace(graph, convolutions=mixed), found).equal < count / 4


@pytest.mark.parametrize("name", RELOWERED)
def test_a_file_with_one_scale_off_by_a_percent_is_reported(
    name: str, built: Built, graph: Quantization, tmp_path: Path
) -> None:
    prepared = copy.deepcopy(built.program.prepared)
    first = graph.convolutions[0]
    assert first.output is not None
    (changed,) = (
        quantizer
        for quantizer, node in activations(prepared).items()
        if first.output.name in (node.name, *(source.name for source in node.all_input_nodes))
    )
    changed.scale.mul_(1.01)
    other = StaticProgram(built.program.recipe, prepared, built.program.calibration)
    artifact = lower(name, other, tmp_path)
    count = len(graph.convolutions)
    assert artifact.manifest.facts["scales"]["equal"] == count, "it is what its own graph says"
    report = compare_scales(graph, read(artifact))
    assert report.equal == count - 2
    assert [d.partition(":")[0] for d in report.differences[:2]] == [
        f"{first.name} output",
        f"{graph.convolutions[1].name} input",
    ]
    assert any(f"2 of {count} int8 convolutions" in note for note in report.notes)
