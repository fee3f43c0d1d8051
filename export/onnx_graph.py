"""Reading and rewriting ONNX graphs."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from dfnet.errors import UnsupportedError
from export.convolutions import ConvolutionCount

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_SUFFIX = "_uint8"


def operators(graph: GraphProto) -> dict[str, int]:
    """Counts by operator, sorted; operators outside the standard carry their domain."""
    names = Counter(f"{node.domain}.{node.op_type}".lstrip(".") for node in graph.node)
    return dict(sorted(names.items()))


def computed_in_float(graph: GraphProto) -> dict[str, int]:
    """Counts by operator of what computes floating-point numbers in a graph that ONNX Runtime has
    optimized; quantizing and dequantizing are left out.

    A runtime's own operators name no types, so codes are followed from where they are made.
    """
    floats = {value.name for value in graph.input}
    found: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            floats.update(node.output)
        elif node.op_type != "QuantizeLinear" and floats.intersection(node.input):
            floats.update(node.output)
            found[f"{node.domain}.{node.op_type}".lstrip(".")] += 1
    return dict(sorted(found.items()))


def file_convolutions(graph: GraphProto) -> ConvolutionCount:
    """Counts convolutions, transposed ones included, as the torch graph counts them."""
    makers = {output: node.op_type for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type in _CONVOLUTIONS]
    quantized = [
        node
        for node in convolutions
        if all(makers.get(name) == "DequantizeLinear" for name in node.input[:2])
    ]
    return ConvolutionCount(len(convolutions), len(quantized))


def strip_metadata(model: ModelProto) -> None:
    """Removes the exporter's notes: they double a small file and name the build machine's paths."""
    graph = model.graph
    owners = (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info)
    for owner in (*owners, *graph.initializer):
        del owner.metadata_props[:]
        owner.ClearField("doc_string")


def unsigned_activations(model: ModelProto) -> ModelProto:
    """``model`` with int8 activations stored as uint8, zero points moved by 128; weights stay int8.

    Stored codes move with their zero points, so every real number stays the same.

    Raises:
        UnsupportedError: an activation is quantized in another way than int8 pairs.
    """
    graph = model.graph
    users: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    for node in [n for n in graph.node if n.op_type == "QuantizeLinear"]:
        _unsign(node, graph)
        for user in users[node.output[0]]:
            if user.op_type != "DequantizeLinear":
                raise UnsupportedError(
                    f"ONNX export, {node.output[0]}: got int8 codes read by {user.op_type}, needed "
                    "DequantizeLinear alone. Quantize the network with this project's recipes."
                )
            _unsign(user, graph)
    _drop_unused_initializers(graph)
    del graph.value_info[:]
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


def _unsign(node: NodeProto, graph: GraphProto) -> None:
    """Points a quantize or dequantize node at its zero point plus 128, as uint8."""
    zero_point = node.input[2] if len(node.input) > 2 else ""
    if zero_point.endswith(_SUFFIX):
        return
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    unsigned = zero_point + _SUFFIX
    if unsigned not in initializers:
        tensor = initializers.get(zero_point)
        if tensor is None or tensor.data_type != onnx.TensorProto.INT8:
            raise UnsupportedError(
                f"ONNX export, {node.name}: got no constant int8 zero point, needed one. Quantize "
                "the network with this project's recipes."
            )
        shifted = numpy_helper.to_array(tensor).astype(np.int16) + 128
        graph.initializer.append(numpy_helper.from_array(shifted.astype(np.uint8), unsigned))
    node.input[2] = unsigned


def _drop_unused_initializers(graph: GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    used |= {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
