"""A network as a traced graph with quantizers, ready to be calibrated."""

from __future__ import annotations

from torch import nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

from quantize.blend import split_blends
from quantize.quantizer import GraphQuantizer
from quantize.recipe import Recipe
from quantize.trace import trace


def prepare(network: nn.Module, recipe: Recipe) -> GraphModule:
    """``network`` traced for any size, with quantizers wherever ``recipe`` quantizes.

    Raises:
        UnsupportedError: see ``quantize.ptq.quantize``.
    """
    return prepare_graph(trace(network).module(), recipe)


def prepare_graph(graph: GraphModule, recipe: Recipe) -> GraphModule:
    """A traced network with quantizers; ``graph`` is used up."""
    if recipe.split_blend:
        split_blends(graph)
    prepared: GraphModule = prepare_pt2e(graph, GraphQuantizer(recipe))
    return prepared
