"""A .tflite file that takes and gives pictures as bytes: three operators more at its face.

    uint8 NHWC -> TRANSPOSE -> QUANTIZE (an int8 input) or DEQUANTIZE (a float one) -> the graph
    the graph -> QUANTIZE to uint8, which clips and rounds half to even -> TRANSPOSE -> uint8 NHWC

The graph between is the file's own, bit for bit, and no arithmetic is added but that of scales:
bytes of scale 1/255 are quantized numbers already. Tracing a network with casts and products
around it gives another graph: the converter then quantizes inputs anew where they are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from export.litert_bundle import pack, parse
from export.stored import SCALE

_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
_NO_DATA = 0
"""The buffer that stands for no data, by the format's rule."""
_Code = schema.BuiltinOperator


def with_byte_pictures(model: bytes) -> bytes:
    """``model``, one graph with one signature and NCHW pictures, with bytes at its face."""
    edited = _Edited(parse(model))
    (signature,) = edited.model.signatureDefs
    for given in signature.inputs:
        given.tensorIndex = edited.bytes_into(given.tensorIndex)
    for given in signature.outputs:
        given.tensorIndex = edited.bytes_from(given.tensorIndex)
    edited.finish()
    return pack(edited.model, len(model))


class _Edited:
    def __init__(self, model: Any) -> None:
        self.model = model
        (self._graph,) = model.subgraphs
        self._before: list[Any] = []
        self._after: list[Any] = []

    def bytes_into(self, index: int) -> int:
        """A new input that becomes the old one, and no longer is one."""
        old = self._graph.tensors[index]
        nchw = self._tensor(old.name + b"_nchw", old.shape)
        nhwc = self._tensor(old.name + b"_bytes", np.asarray(old.shape)[list(_TO_NHWC)])
        real = old.type == schema.TensorType.FLOAT32
        code = _Code.DEQUANTIZE if real else _Code.QUANTIZE
        self._before += [self._transpose(nhwc, nchw, _TO_NCHW), self._operator(code, [nchw], index)]
        inputs = list(self._graph.inputs)
        inputs[inputs.index(index)] = nhwc
        self._graph.inputs = inputs
        return nhwc

    def bytes_from(self, index: int) -> int:
        """A new output in the old one's place."""
        old = self._graph.tensors[index]
        nchw = self._tensor(old.name + b"_nchw", old.shape)
        nhwc = self._tensor(old.name + b"_bytes", np.asarray(old.shape)[list(_TO_NHWC)])
        self._after += [
            self._operator(_Code.QUANTIZE, [index], nchw),
            self._transpose(nchw, nhwc, _TO_NHWC),
        ]
        outputs = list(self._graph.outputs)
        outputs[outputs.index(index)] = nhwc
        self._graph.outputs = outputs
        return nhwc

    def finish(self) -> None:
        self._graph.operators = [*self._before, *self._graph.operators, *self._after]

    def _tensor(self, name: bytes, shape: npt.NDArray[np.int32]) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.buffer = name, _NO_DATA
        tensor.shape = np.asarray(shape, np.int32)
        tensor.type = schema.TensorType.UINT8
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = np.array([SCALE], np.float32)
        tensor.quantization.zeroPoint = np.array([0], np.int64)
        return self._add(tensor)

    def _add(self, tensor: Any) -> int:
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _transpose(self, source: int, result: int, order: Sequence[int]) -> Any:
        buffer = schema.BufferT()
        buffer.data = np.array(order, np.int32).view(np.uint8)
        self.model.buffers.append(buffer)
        constant = schema.TensorT()
        constant.name, constant.buffer = b"order", len(self.model.buffers) - 1
        constant.shape, constant.type = np.array([4], np.int32), schema.TensorType.INT32
        operator = self._operator(_Code.TRANSPOSE, [source, self._add(constant)], result)
        operator.builtinOptionsType = schema.BuiltinOptions.TransposeOptions
        operator.builtinOptions = schema.TransposeOptionsT()
        return operator

    def _operator(self, code: int, inputs: Sequence[int], result: int) -> Any:
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(code)
        operator.inputs = np.array(inputs, np.int32)
        operator.outputs = np.array([result], np.int32)
        return operator

    def _code(self, builtin: int) -> int:
        for index, known in enumerate(self.model.operatorCodes):
            if known.builtinCode == builtin:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = _VERSIONS[builtin]
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1


_VERSIONS = {_Code.TRANSPOSE: 2, _Code.QUANTIZE: 2, _Code.DEQUANTIZE: 2}
"""The first version of each operator that takes int8 tensors
(tensorflow/lite/tools/versioning/op_version.cc)."""
