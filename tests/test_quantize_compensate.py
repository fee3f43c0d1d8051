"""What rounding one weight breaks, the others make up for."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import quantize.compensate
from dfnet.tensors import example_inputs
from quantize.compensate import compensate_rounding
from quantize.crops import Crop
from quantize.observers import Mode, activations, modes, weights

from small_networks import SIZE, SmallNetwork, calibrated, outputs, traced

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")


class Linear(nn.Module):
    """A linear layer over four by four pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Tensor:
        blocks = nn.functional.pixel_unshuffle(x, 4)
        result: Tensor = self.layer(blocks.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return result


ROUNDED: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv2d(3, 3, 3, padding=1),
    "strided": lambda: nn.Conv2d(3, 3, 3, stride=2, padding=1),
    "dilated": lambda: nn.Conv2d(3, 3, 3, dilation=2, padding=2),
    "oblong": lambda: nn.Conv2d(3, 3, (1, 3), padding=(0, 1)),
    "same padding": lambda: nn.Conv2d(3, 3, 4, padding="same"),
    "valid padding": lambda: nn.Conv2d(3, 3, 3, padding="valid"),
    "grouped": lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3),
    "linear": Linear,
}


class Layer(SmallNetwork):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        result: Tensor = self.layer(wide)
        return result


def smooth_crops(count: int = 4) -> tuple[Crop, ...]:
    """Bright noise without detail: neighbouring inputs resemble each other, as in pictures."""
    noise = [example_inputs(SIZE, seed=seed) for seed in range(count)]
    blurred = [[nn.functional.avg_pool2d(x, 9, 1, 4) + 0.2 for x in crop] for crop in noise]
    return tuple(tuple(crop) for crop in blurred)


def weight_error(prepared: GraphModule, graph: GraphModule) -> float:
    """Mean squared error that rounded weights alone cause."""
    crops = smooth_crops()
    with modes(prepared, Mode.INT8, but=list(activations(prepared))):
        rounded = outputs(prepared, crops)
    return float((rounded - outputs(graph, crops)).square().mean())


def on_grid(prepared: GraphModule) -> bool:
    """Whether rounding to nearest leaves every weight as it is."""
    for quantizer, node in weights(prepared).items():
        weight = prepared.get_parameter(str(node.target)).detach()
        quantizer.mode = Mode.INT8
        if not torch.equal(quantizer(weight), weight):
            return False
    return True


@pytest.fixture(params=ROUNDED)
def graph(request: pytest.FixtureRequest) -> GraphModule:
    torch.manual_seed(0)
    return traced(Layer(ROUNDED[request.param]()))


def test_the_error_of_correlated_inputs_falls(graph: GraphModule) -> None:
    prepared = calibrated(graph)
    before = weight_error(prepared, graph)

    assert compensate_rounding(prepared, smooth_crops()) == 1

    assert weight_error(prepared, graph) < 0.5 * before
    assert on_grid(prepared)


def test_ranges_and_biases_stay() -> None:
    torch.manual_seed(0)
    layer = traced(Layer(nn.Conv2d(3, 3, 3, padding=1)))
    before, prepared = calibrated(layer), calibrated(layer)

    compensate_rounding(prepared, smooth_crops())

    for mine, other in zip(activations(prepared), activations(before), strict=True):
        assert torch.equal(mine.scale, other.scale)
    for mine, other in zip(weights(prepared), weights(before), strict=True):
        assert torch.equal(mine.scale, other.scale)
    changed = [
        name
        for name, parameter in before.named_parameters()
        if not torch.equal(parameter, prepared.get_parameter(name))
    ]
    assert changed == ["layer.weight"]


def test_transposed_convolutions_are_left_to_round_to_nearest() -> None:
    network = traced(Layer(nn.ConvTranspose2d(3, 3, 3, padding=1)))
    prepared = calibrated(network)
    before = copy.deepcopy(prepared.state_dict())

    assert compensate_rounding(prepared, smooth_crops()) == 0

    for name, tensor in prepared.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_layer_that_sees_nothing_is_rounded_to_nearest() -> None:
    torch.manual_seed(0)
    graph = traced(Layer(nn.Conv2d(3, 3, 3, padding=1)))
    prepared = calibrated(graph)
    (quantizer,) = weights(prepared)
    quantizer.mode = Mode.INT8
    nearest = quantizer(graph.get_parameter("layer.weight").detach())
    black = tuple(torch.zeros_like(x) for x in example_inputs(SIZE, seed=0))

    compensate_rounding(prepared, [black])

    assert torch.equal(prepared.get_parameter("layer.weight"), nearest)


def test_little_memory_gives_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    graph = traced(Layer(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3))))
    at_once, one_by_one = calibrated(graph), calibrated(graph)

    assert compensate_rounding(at_once, smooth_crops()) == 2
    monkeypatch.setattr(quantize.compensate, "_MEMORY_BYTES", 1)
    assert compensate_rounding(one_by_one, smooth_crops()) == 2

    for name, parameter in at_once.named_parameters():
        assert torch.equal(parameter, one_by_one.get_parameter(name))
