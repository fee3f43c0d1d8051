"""The scales an ONNX file with quantize/dequantize pairs holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, numpy_helper

from export.scales import ConvolutionScales, Quantization, TensorScale, signed, weight_bytes

_CONVOLUTIONS = ("Conv", "ConvTranspose", "Gemm")
_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def read_scales(graph: GraphProto) -> Quantization:
    """The int8 tensors of a graph, in its order; uint8 ones with the zero points of int8."""
    return _Reader(graph).read()


class _Reader:
    def __init__(self, graph: GraphProto) -> None:
        self._nodes = list(graph.node)
        self._values = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {output: node for node in self._nodes for output in node.output}
        self._users: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self._nodes:
            for name in node.input:
                self._users[name].append(node)

    def read(self) -> Quantization:
        quantizes = [node for node in self._nodes if node.op_type == _QUANTIZE]
        return Quantization(
            tuple(self._convolutions()),
            tuple(map(self._tensor, quantizes)),
            tuple(
                (self._tensor(source), self._tensor(node))
                for node in quantizes
                if (source := self._dequantize(node.input[0])) is not None
                and not self._tensor(source).equals(self._tensor(node))
            ),
        )

    def _convolutions(self) -> Iterator[ConvolutionScales]:
        for node in self._nodes:
            if node.op_type not in _CONVOLUTIONS:
                continue
            source, weight = (self._dequantize(name) for name in node.input[:2])
            if source is not None and weight is not None and weight.input[0] in self._values:
                axis = next((a.i for a in weight.attribute if a.name == "axis"), 1)
                result = self._result(node.output[0])
                yield ConvolutionScales(
                    node.name,
                    weight_bytes(self._array(weight.input[0]), axis),
                    self._tensor(weight),
                    self._tensor(source),
                    None if result is None else self._tensor(result),
                )

    def _dequantize(self, name: str) -> NodeProto | None:
        maker = self._makers.get(name)
        return maker if maker is not None and maker.op_type == _DEQUANTIZE else None

    def _result(self, name: str) -> NodeProto | None:
        """What quantizes a tensor, or the ReLU that alone consumes it."""
        users = self._users[name]
        if len(users) == 1 and users[0].op_type == "Relu":
            users = self._users[users[0].output[0]]
        return next((user for user in users if user.op_type == _QUANTIZE), None)

    def _tensor(self, node: NodeProto) -> TensorScale:
        """What a quantize or dequantize operator says of its codes."""
        scale, zero_point = (np.atleast_1d(self._array(name)) for name in node.input[1:3])
        return TensorScale(
            node.output[0] if node.op_type == _QUANTIZE else node.input[0],
            tuple(map(float, scale)),
            signed(int(zero_point[0]), zero_point.dtype.name),
        )

    def _array(self, name: str) -> npt.NDArray[np.generic]:
        return numpy_helper.to_array(self._values[name])
