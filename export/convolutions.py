"""Counting convolutions in a torch graph: what every lowered file must still hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch.fx import Graph, Node

_DEQUANTIZE = "quantized_decomposed::dequantize"


@dataclass(frozen=True)
class ConvolutionCount:
    """``total`` convolutions, transposed ones included; ``quantized`` of them read a dequantized
    input and dequantized weights."""

    total: int
    quantized: int

    def to_json(self) -> dict[str, int]:
        return asdict(self)


def count_convolutions(graph: Graph) -> ConvolutionCount:
    """Counts in a graph captured by ``torch.export.export``, whatever the network."""
    convolutions = [node for node in graph.nodes if _is_convolution(node)]
    quantized = [node for node in convolutions if all(map(_is_dequantized, node.args[:2]))]
    return ConvolutionCount(len(convolutions), len(quantized))


def _is_convolution(node: Node) -> bool:
    return _name(node).startswith("aten::conv")


def _is_dequantized(argument: object) -> bool:
    return isinstance(argument, Node) and _name(argument).startswith(_DEQUANTIZE)


def _name(node: Node) -> str:
    """``aten::conv2d`` for a call of ``torch.ops.aten.conv2d.default``; empty for anything else."""
    target = node.target
    return str(target._schema.name) if isinstance(target, torch._ops.OpOverload) else ""
