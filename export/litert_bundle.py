"""Several .tflite files of one network as one, a signature each, equal constants stored once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

_IDENTIFIER = b"TFL3"
_UNUSED = 0
"""The buffer that stands for no data, the first one by the format's rule."""


def merge_models(models: Mapping[str, bytes]) -> bytes:
    """One model with the signatures named by the keys; each model has one signature and one graph.

    Tensors that hold the same bytes share a buffer.
    """
    merged = _Merged()
    for name, model in models.items():
        merged.add(name, parse(model))
    return pack(merged.model, sum(map(len, models.values())))


def constant_bytes(model: bytes) -> int:
    """Bytes of all buffers of a model."""
    return sum(map(len, _contents(parse(model).buffers)))


def parse(model: bytes) -> Any:
    """The model as the schema's objects."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))


def pack(model: Any, size: int) -> bytes:
    """The file of ``parse``'s objects; ``size`` is about how many bytes it takes."""
    builder = _SharingBuilder(size)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


class _Merged:
    def __init__(self) -> None:
        self.model: Any = None
        self._buffers: dict[bytes, int] = {}
        self._codes: dict[tuple[object, ...], int] = {}

    def add(self, name: str, model: Any) -> None:
        if self.model is None:
            self._start(model)
        (graph,), (signature,) = model.subgraphs, model.signatureDefs
        places = [self._buffer(data) for data in _contents(model.buffers)]
        for tensor in graph.tensors:
            # A tensor computed at run time has an empty buffer of its own, which nothing reads.
            tensor.buffer = places[tensor.buffer]
        codes = [self._code(code) for code in model.operatorCodes]
        for operator in graph.operators:
            operator.opcodeIndex = codes[operator.opcodeIndex]
        graph.name = name.encode()
        signature.signatureKey, signature.subgraphIndex = name.encode(), len(self.model.subgraphs)
        self.model.subgraphs.append(graph)
        self.model.signatureDefs.append(signature)

    def _start(self, model: Any) -> None:
        self.model = schema.ModelT()
        self.model.version, self.model.description = model.version, model.description
        self.model.subgraphs, self.model.signatureDefs = [], []
        self.model.operatorCodes = []
        self.model.buffers = [schema.BufferT()]
        contents = _contents(model.buffers)
        self.model.metadata = model.metadata
        for entry in model.metadata or ():
            entry.buffer = self._buffer(contents[entry.buffer])

    def _buffer(self, data: bytes) -> int:
        if not data:
            return _UNUSED
        if data not in self._buffers:
            self._buffers[data] = len(self.model.buffers)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data, np.uint8)
            self.model.buffers.append(buffer)
        return self._buffers[data]

    def _code(self, code: Any) -> int:
        identity = (code.builtinCode, code.deprecatedBuiltinCode, code.customCode, code.version)
        if identity not in self._codes:
            self._codes[identity] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        return self._codes[identity]


class _SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Writes equal vectors and strings once: scales, zero points, shapes and names of tensors are
    the same at every resolution, and an int8 graph is made of little else. A reader of the format
    follows offsets and cannot tell."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._vectors: dict[tuple[str, bytes], int] = {}
        self._strings: dict[bytes, int] = {}

    def CreateNumpyVector(self, x: npt.NDArray[Any]) -> int:  # noqa: N802
        key = x.dtype.str, x.tobytes()
        if key not in self._vectors:
            self._vectors[key] = super().CreateNumpyVector(x)
        return self._vectors[key]

    def CreateString(self, s: bytes, *how: str) -> int:  # noqa: N802
        if s not in self._strings:
            self._strings[s] = super().CreateString(s, *how)
        return self._strings[s]


def _contents(buffers: Iterable[Any]) -> list[bytes]:
    return [b"" if one.data is None else bytes(one.data) for one in buffers]
