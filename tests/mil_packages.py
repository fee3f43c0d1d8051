"""Writes small Core ML packages byte by byte, without coremltools' converter.

A second, independent writer of the format: what it gets wrong, coremltools' own packages in
``test_mil_goldens.py`` would show.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.mil.protobuf import FeatureTypes_pb2, MIL_pb2, Model_pb2

Array = npt.NDArray[Any]
_CODES = {"float16": 10, "float32": 11, "int8": 21, "int32": 23, "bool": 1, "uint8": 31}
_BLOB_CODES = {"float16": 1, "float32": 2, "uint8": 3, "int8": 4}
_FEATURE_CODES = {"float32": 65568, "float16": 65552, "int32": 131104}
MODEL = "com.apple.CoreML/model.mlmodel"


@dataclass
class Program:
    """A program under construction; every method appends and returns the name of the result."""

    inputs: dict[str, tuple[str, tuple[int, ...]]]
    outputs: dict[str, tuple[str, tuple[int, ...]]]
    operations: list[Any] = field(default_factory=list)
    blobs: bytearray = field(
        default_factory=lambda: bytearray(struct.pack("<II", 0, 2) + bytes(56))
    )

    def const(self, name: str, value: object, *, blob: bool = False) -> str:
        operation = self._operation("const", name, *_typed(value))
        attribute = operation.attributes["val"]
        _set_type(attribute.type, *_typed(value))
        if blob:
            attribute.blobFileValue.fileName = "@model_path/weights/weight.bin"
            attribute.blobFileValue.offset = self._blob(np.asarray(value))
        else:
            _immediate(attribute, value)
        return name

    def add(
        self,
        type_: str,
        name: str,
        result: tuple[str, tuple[int, ...]],
        arguments: Mapping[str, str | Sequence[str]],
    ) -> str:
        operation = self._operation(type_, name, *result)
        for parameter, bound in arguments.items():
            for one in [bound] if isinstance(bound, str) else bound:
                operation.inputs[parameter].arguments.add().name = one
        return name

    def _operation(self, type_: str, name: str, dtype: str, shape: tuple[int, ...]) -> Any:
        operation = MIL_pb2.Operation(type=type_)
        output = operation.outputs.add(name=name)
        _set_type(output.type, dtype, shape)
        self.operations.append(operation)
        return operation

    def _blob(self, value: Array) -> int:
        offset = len(self.blobs)
        raw = value.tobytes()
        record = struct.pack(
            "<IIQQ", 0xDEADBEEF, _BLOB_CODES[value.dtype.name], len(raw), offset + 64
        )
        self.blobs += record.ljust(64, b"\0") + raw.ljust(-(-len(raw) // 64) * 64, b"\0")
        return offset

    def model(self) -> Any:
        model = Model_pb2.Model(specificationVersion=8)
        function = model.mlProgram.functions["main"]
        function.opset = "CoreML7"
        block = function.block_specializations["CoreML7"]
        for name, (dtype, shape) in self.inputs.items():
            _set_type(function.inputs.add(name=name).type, dtype, shape)
            _describe(model.description.input.add(name=name), dtype, shape)
        for name, (dtype, shape) in self.outputs.items():
            block.outputs.append(name)
            _describe(model.description.output.add(name=name), dtype, shape)
        block.operations.extend(self.operations)
        return model


def write_package(folder: Path, program: Program, *, model: Any = None) -> Path:
    """Writes ``folder/model.mlpackage``; ``model`` replaces the program's own message."""
    package = folder / "model.mlpackage"
    file = package / "Data" / MODEL
    (file.parent / "weights").mkdir(parents=True)
    file.write_bytes((model or program.model()).SerializeToString())
    (file.parent / "weights" / "weight.bin").write_bytes(bytes(program.blobs))
    write_manifest(package, MODEL)
    return package


def write_manifest(package: Path, root: object) -> None:
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {"model": {"path": root, "author": "com.apple.CoreML"}},
        "rootModelIdentifier": "model",
    }
    (package / "Manifest.json").write_text(json.dumps(manifest))


def small_convolution(dtype: str = "float32") -> Program:
    """relu(conv(x) + bias) on (1, 2, 4, 4), its weights in the blob file, values seeded."""
    rng = np.random.default_rng(0)
    program = Program({"x": (dtype, (1, 2, 4, 4))}, {"y": (dtype, (1, 3, 4, 4))})
    program.const("weight", rng.standard_normal((3, 2, 3, 3)).astype(dtype), blob=True)
    program.const("bias", rng.standard_normal(3).astype(dtype))
    program.const("pad_type", "same")
    arguments = {"x": "x", "weight": "weight", "bias": "bias", "pad_type": "pad_type"}
    program.add("conv", "c", (dtype, (1, 3, 4, 4)), arguments)
    program.add("relu", "y", (dtype, (1, 3, 4, 4)), {"x": "c"})
    return program


def _typed(value: object) -> tuple[str, tuple[int, ...]]:
    if isinstance(value, str):
        return "string", ()
    array = np.asarray(value)
    return array.dtype.name, array.shape


def _set_type(message: Any, dtype: str, shape: tuple[int, ...]) -> None:
    message.tensorType.dataType = 2 if dtype == "string" else _CODES[dtype]
    message.tensorType.rank = len(shape)
    for size in shape:
        message.tensorType.dimensions.add().constant.size = size


def _immediate(message: Any, value: object) -> None:
    tensor = message.immediateValue.tensor
    if isinstance(value, str):
        tensor.strings.values.append(value)
        return
    array = np.asarray(value)
    if array.dtype == np.float32:
        tensor.floats.values.extend(array.reshape(-1).tolist())
    elif array.dtype == np.int32:
        tensor.ints.values.extend(array.reshape(-1).tolist())
    elif array.dtype == np.bool_:
        tensor.bools.values.extend(array.reshape(-1).tolist())
    else:
        tensor.bytes.values = array.tobytes()


def _describe(feature: Any, dtype: str, shape: tuple[int, ...]) -> None:
    array = feature.type.multiArrayType
    array.dataType = _FEATURE_CODES[dtype]
    array.shape.extend(shape)
    assert FeatureTypes_pb2.ArrayFeatureType.ArrayDataType.Name(array.dataType)
