"""A quantized program runs at every size, exports at any, and has one set of scales."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import quantize.ptq
from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.errors import CalibrationError, UnsupportedError
from dfnet.metrics import psnr_db
from dfnet.model import DFNet, DFNetConfig
from dfnet.profiles import Precision, Resolution
from dfnet.signature import Feed
from dfnet.tensors import example_inputs, feed_tensors
from quantize.captures import MIN_CAPTURES
from quantize.dataflow import CONVOLUTIONS
from quantize.fuse import fuse
from quantize.observers import activations
from quantize.ptq import FloatProgram, StaticProgram
from quantize.ptq import quantize as quantize_network
from quantize.ranges import settle_ranges
from quantize.recipe import Observer, Recipe, find_recipe

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")

_quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default
_dequantize_channels = torch.ops.quantized_decomposed.dequantize_per_channel.default


class Foreign(nn.Module):
    """Unlike DFNet: BatchNorm, PReLU, a transposed convolution, a long skip."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(10, 8, 3, 2, 1, bias=False)
        self.down_norm = nn.BatchNorm2d(8)
        self.bend = nn.PReLU(8)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2, bias=False)
        self.up_norm = nn.BatchNorm2d(6)
        self.head = nn.Conv2d(16, 3, 3, padding=1)

    def forward(
        self,
        wide: Tensor,
        ultrawide: Tensor,
        defocus_wide: Tensor,
        defocus_ultrawide: Tensor,
        defocus_target: Tensor,
        occlusion: Tensor,
    ) -> Tensor:
        maps = [defocus_wide, defocus_ultrawide, defocus_target, occlusion]
        inputs = torch.cat([wide, ultrawide, *maps], 1)
        x = torch.relu(self.up_norm(self.up(self.bend(self.down_norm(self.down(inputs))))))
        out: Tensor = wide + 0.3 * self.head(torch.cat([x, inputs], 1))
        return out


def tiny_dfnet() -> DFNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DFNet(DFNetConfig(width=4, blocks=(1, 1, 1))).eval()


@pytest.fixture
def calibration_set(make_capture_set: Callable[..., CaptureSet]) -> CaptureSet:
    return make_capture_set(Split.CALIBRATION, MIN_CAPTURES)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StaticProgram]:
    """Programs made once and read by several tests, by recipe."""
    return {}


@pytest.fixture
def program(
    shared: dict[str, StaticProgram], calibration_set: CaptureSet, feed: Feed
) -> StaticProgram:
    """A small DFNet after recipe int8; tracing one takes seconds."""
    if "int8" not in shared:
        made = quantize_network(fuse(tiny_dfnet(), [feed]), find_recipe("int8"), calibration_set)
        assert isinstance(made, StaticProgram)
        shared["int8"] = made
    return shared["int8"]


def scales(graph: GraphModule) -> list[tuple[float, int]]:
    return [n.args[1:3] for n in graph.graph.nodes if n.target is _quantize]


def run(network: nn.Module, feed: Feed) -> np.ndarray:
    with torch.no_grad():
        output: np.ndarray = network(*feed_tensors(feed)).numpy()
    return output


def test_the_int8_graph_resembles_its_float_self(program: StaticProgram, feed: Feed) -> None:
    decibels = psnr_db(run(tiny_dfnet(), feed), run(program.module(), feed))

    assert 45 < decibels < 90


@pytest.mark.parametrize("size", [Resolution(64, 64), Resolution(24, 40), Resolution(128, 96)])
def test_the_graph_runs_at_other_sizes_than_it_was_calibrated_at(
    program: StaticProgram, size: Resolution
) -> None:
    inputs = example_inputs(size)

    with torch.no_grad():
        reference, candidate = tiny_dfnet()(*inputs), program.module()(*inputs)

    assert candidate.shape == (1, 3, size.height, size.width)
    assert psnr_db(reference.numpy(), candidate.numpy()) > 40


def test_scales_are_the_same_whatever_resolution_is_exported(program: StaticProgram) -> None:
    module = program.module()
    assert isinstance(module, GraphModule)

    for size in (Resolution(64, 64), Resolution(96, 128)):
        inputs = example_inputs(size)
        exported = torch.export.export(program.module(), inputs).module()
        assert len(scales(exported)) > 50
        assert scales(exported) == scales(module)
        with torch.no_grad():
            assert torch.equal(exported(*inputs), module(*inputs))


def test_folding_weights_changes_how_they_are_stored_and_nothing_else(
    program: StaticProgram, feed: Feed
) -> None:
    folded, unfolded = program.module(), program.module(fold_weights=False)

    assert torch.int8 in {t.dtype for t in folded.state_dict().values()}
    assert torch.int8 not in {t.dtype for t in unfolded.state_dict().values()}
    np.testing.assert_array_equal(run(folded, feed), run(unfolded, feed))


def test_every_module_is_fresh(program: StaticProgram, feed: Feed) -> None:
    before = run(program.module(), feed)

    for tensor in program.module().state_dict().values():
        tensor.zero_()

    np.testing.assert_array_equal(run(program.module(), feed), before)


def test_relus_that_quantization_implies_are_dropped_exactly(
    program: StaticProgram, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = program.module()
    monkeypatch.setattr(quantize.ptq, "_drop_implied_relus", lambda module: None)
    kept = program.module()

    def relus(module: nn.Module) -> int:
        assert isinstance(module, GraphModule)
        return sum(n.target is torch.ops.aten.relu.default for n in module.graph.nodes)

    assert (relus(dropped), relus(kept)) == (0, 33)
    np.testing.assert_array_equal(run(dropped, feed), run(kept, feed))


def test_calibration_is_recorded(program: StaticProgram) -> None:
    assert program.calibration is not None
    assert program.calibration.captures == MIN_CAPTURES
    assert program.recipe is find_recipe("int8")


def test_a_foreign_network_is_fused_and_quantized_and_not_changed(
    calibration_set: CaptureSet, feed: Feed
) -> None:
    torch.manual_seed(0)
    network = Foreign().train()
    before = copy.deepcopy(network.state_dict())
    fused = fuse(network, [feed])

    program = quantize_network(fused, find_recipe("int8"), calibration_set)

    graph = program.module()
    assert isinstance(graph, GraphModule)
    convolutions = [n for n in graph.graph.nodes if n.target in CONVOLUTIONS]
    assert [n.all_input_nodes[1].target for n in convolutions] == [_dequantize_channels] * 3
    assert psnr_db(run(fused, feed), run(graph, feed)) > 40
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("recipe", ["fp32", "fp16"])
def test_float_recipes_hold_a_copy_and_need_no_calibration(
    recipe: str, make_capture_set: Callable[..., CaptureSet], feed: Feed
) -> None:
    network = tiny_dfnet()
    unfit = make_capture_set(Split.HELD_OUT, 1)

    program = quantize_network(network, find_recipe(recipe), unfit)
    network.fusion.mask_head.weight.data.zero_()

    assert isinstance(program, FloatProgram)
    assert program.calibration is None
    np.testing.assert_array_equal(run(program.module(), feed), run(tiny_dfnet(), feed))


def test_captures_of_another_split_are_refused_before_any_work(
    make_capture_set: Callable[..., CaptureSet],
) -> None:
    captures = make_capture_set(Split.VALIDATION, MIN_CAPTURES)

    with pytest.raises(CalibrationError, match="got the split validation"):
        quantize_network(tiny_dfnet(), find_recipe("int8"), captures)


def test_16_bit_activations_are_left_to_the_runtimes(calibration_set: CaptureSet) -> None:
    with pytest.raises(UnsupportedError, match="w8a16"):
        quantize_network(tiny_dfnet(), find_recipe("w8a16"), calibration_set)


def test_ranges_that_destroy_the_restoration_are_refused(
    calibration_set: CaptureSet, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output stays close to the wide picture, and yet nothing is restored."""

    def broken(prepared: GraphModule, observer: Observer) -> dict[str, int]:
        chosen = settle_ranges(prepared, observer)
        for quantizer in activations(prepared):
            if quantizer.fixed is None:
                quantizer.scale.mul_(0.01)
        return chosen

    torch.manual_seed(0)
    network = fuse(Foreign(), [feed])
    recipe = Recipe("mine", Precision.W8A8, "min-max", float_image_path=True)
    assert quantize_network(network, recipe, calibration_set).calibration is not None

    monkeypatch.setattr(quantize.ptq, "settle_ranges", broken)
    with pytest.raises(CalibrationError, match="needed at most half of its energy"):
        quantize_network(network, recipe, calibration_set)
