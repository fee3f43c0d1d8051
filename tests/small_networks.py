"""Small networks on the six inputs, and their graphs with quantizers."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

from dfnet.profiles import Precision, Resolution
from dfnet.tensors import example_inputs
from quantize.crops import Crop
from quantize.observers import ActivationQuantizer, Mode, modes
from quantize.quantizer import GraphQuantizer
from quantize.ranges import settle_ranges
from quantize.recipe import Recipe
from quantize.trace import trace

PLAIN = Recipe("plain", Precision.W8A8, observer="min-max", float_image_path=True)
"""Rounds to nearest, over the ranges that were seen, and corrects nothing."""

SIZE = Resolution(32, 40)


class SmallNetwork(nn.Module):
    """Takes the six inputs and looks at the two pictures alone."""

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(
        self,
        wide: Tensor,
        ultrawide: Tensor,
        defocus_wide: Tensor,
        defocus_ultrawide: Tensor,
        defocus_target: Tensor,
        occlusion: Tensor,
    ) -> Tensor:
        return self.restore(wide, ultrawide)


class Restorer(SmallNetwork):
    """Features, a restored picture, and a mask that blends it with the other."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.lift, self.head = nn.Conv2d(6, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.mask = nn.Conv2d(width, 1, 1)
        self.tint: Tensor
        self.register_buffer("tint", torch.ones(1, 3, 1, 1), persistent=False)

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        x = torch.relu(self.lift(torch.cat([wide, ultrawide], 1)))
        restored = (wide + self.head(x)) * self.tint
        result: Tensor = ultrawide + torch.sigmoid(self.mask(x)) * (restored - ultrawide)
        return result


def restorer(width: int = 4) -> Restorer:
    """The same weights every time."""
    torch.manual_seed(0)
    return Restorer(width)


def noise_crops(count: int = 4) -> tuple[Crop, ...]:
    """Uniform noise on every input."""
    return tuple(example_inputs(SIZE, seed=seed) for seed in range(count))


def traced(network: nn.Module) -> GraphModule:
    graph: GraphModule = trace(network.eval()).module()
    return graph


def calibrated(graph: GraphModule, recipe: Recipe = PLAIN) -> GraphModule:
    """A copy of a traced graph with quantizers whose ranges are settled on noise."""
    prepared: GraphModule = prepare_pt2e(copy.deepcopy(graph), GraphQuantizer(recipe))
    with torch.no_grad():
        for crop in noise_crops():
            prepared(*crop)
    assert recipe.observer is not None
    settle_ranges(prepared, recipe.observer)
    return prepared


def outputs(graph: GraphModule, crops: Sequence[Crop]) -> Tensor:
    """The graph's results on ``crops``, (N, C, H, W)."""
    with torch.no_grad():
        return torch.cat([graph(*crop) for crop in crops])


def int8_outputs(prepared: GraphModule, crops: Sequence[Crop]) -> Tensor:
    with modes(prepared, Mode.INT8):
        return outputs(prepared, crops)


def int8_error(prepared: GraphModule, reference: GraphModule, crops: Sequence[Crop]) -> float:
    """Mean squared difference between the int8 graph and a float one."""
    difference = int8_outputs(prepared, crops) - outputs(reference, crops)
    return float(difference.square().mean())


def chain_of(*quantizers: ActivationQuantizer) -> GraphModule:
    """A graph that passes its only input through one quantizer after the other."""
    root = nn.ModuleDict({f"tensor{i}": q for i, q in enumerate(quantizers)})
    graph = Graph()
    node = graph.placeholder("x")
    for name in root:
        node = graph.call_module(name, (node,))
    graph.output(node)
    return GraphModule(root, graph)
