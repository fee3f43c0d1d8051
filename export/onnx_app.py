"""An ONNX file that takes and gives pictures as bytes: two nodes more for each of them.

uint8 NHWC -> Transpose -> DequantizeLinear -> the graph
the graph -> QuantizeLinear, which clips and rounds half to even -> Transpose -> uint8 NHWC
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

from export.stored import SCALE

_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
_SCALE, _ZERO = "byte_scale", "byte_zero_point"


def with_byte_pictures(model: ModelProto) -> ModelProto:
    """``model``, of float32 NCHW inputs and outputs, with bytes at its face; valid again."""
    edited = ModelProto()
    edited.CopyFrom(model)
    graph = edited.graph
    graph.initializer.append(numpy_helper.from_array(np.array(SCALE, np.float32), _SCALE))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.uint8), _ZERO))
    nodes = list(graph.node)
    before, after = [], []
    for value in graph.input:
        real, nchw = f"{value.name}_real", f"{value.name}_nchw"
        for node in nodes:
            node.input[:] = [real if name == value.name else name for name in node.input]
        before += [
            helper.make_node("Transpose", [value.name], [nchw], perm=_TO_NCHW),
            helper.make_node("DequantizeLinear", [nchw, _SCALE, _ZERO], [real]),
        ]
        _make_bytes(value)
    for value in graph.output:
        real, nchw = f"{value.name}_real", f"{value.name}_nchw"
        for node in nodes:
            node.output[:] = [real if name == value.name else name for name in node.output]
            node.input[:] = [real if name == value.name else name for name in node.input]
        after += [
            helper.make_node("QuantizeLinear", [real, _SCALE, _ZERO], [nchw]),
            helper.make_node("Transpose", [nchw], [value.name], perm=_TO_NHWC),
        ]
        _make_bytes(value)
    del graph.node[:]
    graph.node.extend([*before, *nodes, *after])
    checker.check_model(edited, full_check=True)
    return edited


def _make_bytes(value: ValueInfoProto) -> None:
    tensor = value.type.tensor_type
    nchw = [dimension.dim_value for dimension in tensor.shape.dim]
    value.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.UINT8, _nhwc(nchw)))


def _nhwc(shape: Sequence[int]) -> list[int]:
    return [shape[place] for place in _TO_NHWC]
