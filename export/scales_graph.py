"""The scales of the quantized torch graph that all runtimes share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.fx import GraphModule, Node

from export.scales import ConvolutionScales, Quantization, TensorScale, weight_bytes
from quantize.dataflow import CONVOLUTIONS, held_tensor, module_names
from quantize.quantizer import RELUS

_QUANTIZE = torch.ops.quantized_decomposed.quantize_per_tensor.default
_DEQUANTIZE = torch.ops.quantized_decomposed.dequantize_per_tensor.default
_DEQUANTIZE_WEIGHT = torch.ops.quantized_decomposed.dequantize_per_channel.default


def read_graph(module: nn.Module) -> Quantization:
    """The int8 tensors of ``Program.module()``, in graph order; none of a float network."""
    if not isinstance(module, GraphModule):
        return Quantization((), ())
    quantizes = [node for node in module.graph.nodes if node.target is _QUANTIZE]
    return Quantization(
        tuple(_convolutions(module)),
        tuple(map(_tensor, quantizes)),
        tuple(
            (_tensor(source), _tensor(node))
            for node in quantizes
            if (source := _argument(node, 0)).target is _DEQUANTIZE
            and not _tensor(source).equals(_tensor(node))
        ),
    )


def _convolutions(module: GraphModule) -> Iterator[ConvolutionScales]:
    for node in module.graph.nodes:
        if node.target not in CONVOLUTIONS:
            continue
        source, weight = _argument(node, 0), _argument(node, 1)
        if source.target is _DEQUANTIZE and weight.target is _DEQUANTIZE_WEIGHT:
            names = module_names(node)
            yield _convolution(module, node, names[-1] if names else node.name)


def _convolution(module: GraphModule, node: Node, name: str) -> ConvolutionScales:
    weight = _argument(node, 1)
    codes, scales = (held_tensor(module, _argument(weight, place)) for place in range(2))
    axis = weight.args[3]
    assert isinstance(axis, int)
    result = _quantized_result(node)
    return ConvolutionScales(
        name,
        weight_bytes(codes.numpy(), axis),
        TensorScale(f"{name}.weight", tuple(scales.to(torch.float64).tolist()), 0),
        _tensor(_argument(node, 0)),
        None if result is None else _tensor(result),
    )


def _quantized_result(node: Node) -> Node | None:
    """The quantize operator after ``node``, or after the ReLU that alone consumes it."""
    users = list(node.users)
    if len(users) == 1 and users[0].target in RELUS:
        users = list(users[0].users)
    return next((user for user in users if user.target is _QUANTIZE), None)


def _tensor(node: Node) -> TensorScale:
    """What a quantize or dequantize operator says of its codes."""
    _, scale, zero_point = node.args[:3]
    assert isinstance(scale, float)
    assert isinstance(zero_point, int)
    return TensorScale(_source(node).name, (float(np.float32(scale)),), zero_point)


def _source(node: Node) -> Node:
    """What is quantized: the node behind quantize and dequantize operators."""
    while node.target in (_QUANTIZE, _DEQUANTIZE):
        node = _argument(node, 0)
    return node


def _argument(node: Node, place: int) -> Node:
    argument = node.args[place]
    assert isinstance(argument, Node)
    return argument
