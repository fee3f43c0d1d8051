"""The scales a .tflite file holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from export.litert_graph import CONVOLUTIONS, TRANSPOSED, read_operators
from export.scales import ConvolutionScales, Quantization, TensorScale, weight_bytes_nhwc

_OPERANDS = {TRANSPOSED: (2, 1)}
"""Places of a convolution's activation and weight among its inputs, where not (0, 1)."""
_QUANTIZE = "QUANTIZE"
_REARRANGE = frozenset({_QUANTIZE, "RESHAPE", "TRANSPOSE"})
"""Operators whose result is their input in another order or scale."""


def read_scales(model: bytes) -> Quantization:
    """The int8 tensors of the file's first subgraph, in order of execution."""
    return _Reader(model).read()


class _Reader:
    def __init__(self, model: bytes) -> None:
        self._operators = read_operators(model)
        parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
        self._tensors, self._buffers = parsed.subgraphs[0].tensors, parsed.buffers
        self._makers = {index: op for op in self._operators for index in op.outputs}
        (signature,) = parsed.signatureDefs
        self._inputs = {one.tensorIndex: one.name.decode() for one in signature.inputs}

    def read(self) -> Quantization:
        indices = (i for op in self._operators for i in (*op.inputs, *op.outputs))
        found = {i: self._scale(i) for i in indices if not self._is_constant(i)}
        return Quantization(
            tuple(self._convolutions()),
            tuple(scale for scale in found.values() if scale),
            tuple(self._requantized()),
        )

    def _convolutions(self) -> Iterator[ConvolutionScales]:
        for operator in self._operators:
            if operator.name not in CONVOLUTIONS:
                continue
            source, weight = _OPERANDS.get(operator.name, (0, 1))
            scales = self._scale(operator.inputs[source]), self._scale(operator.inputs[weight])
            if scales[0] and scales[1]:
                index = operator.inputs[weight]
                axis = self._tensors[index].quantization.quantizedDimension
                yield ConvolutionScales(
                    operator.result,
                    weight_bytes_nhwc(self._codes(index), axis),
                    scales[1],
                    scales[0],
                    self._scale(operator.outputs[0]),
                )

    def _requantized(self) -> Iterator[tuple[TensorScale, TensorScale]]:
        for operator in self._operators:
            if operator.name != _QUANTIZE:
                continue
            before, after = self._scale(operator.inputs[0]), self._scale(operator.outputs[0])
            if before and after and not before.equals(after):
                yield before, replace(after, name=self._origin(operator.inputs[0]))

    def _origin(self, index: int) -> str:
        """The name of what a tensor is rearranged from: an input's own, if it is one."""
        while index in self._makers and self._makers[index].name in _REARRANGE:
            index = self._makers[index].inputs[0]
        return self._inputs.get(index) or str(self._tensors[index].name.decode())

    def _scale(self, index: int) -> TensorScale | None:
        """None for a tensor that is not int8."""
        tensor = self._tensors[index]
        if tensor.type != schema.TensorType.INT8:
            return None
        quantization: Any = tensor.quantization
        return TensorScale(
            tensor.name.decode(),
            tuple(float(np.float32(scale)) for scale in quantization.scale),
            int(quantization.zeroPoint[0]),
        )

    def _codes(self, index: int) -> npt.NDArray[np.int8]:
        tensor = self._tensors[index]
        data = np.asarray(self._buffers[tensor.buffer].data, np.uint8)
        return data.view(np.int8).reshape([int(size) for size in tensor.shape])

    def _is_constant(self, index: int) -> bool:
        return self._buffers[self._tensors[index].buffer].data is not None
