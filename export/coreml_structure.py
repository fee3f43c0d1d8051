"""What a saved Core ML package says about itself, read without Core ML.

Core ML runs on Apple systems only. Elsewhere these checks on the saved file are what stands
between a silent conversion fault and a phone: its signature, its operators, which convolutions
are int8, and whether every weight it names is there and finite.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from coremltools.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2
from google.protobuf.message import DecodeError

from dfnet.errors import ArtifactError
from dfnet.manifest import TensorSpec
from export.stored import byte_spec

_CONVOLUTIONS = ("conv", "conv_transpose")
_WEIGHT_DEQUANTIZERS = ("constexpr_affine_dequantize", "constexpr_blockwise_shift_scale")
_SCALED = (*_WEIGHT_DEQUANTIZERS, "quantize", "dequantize")
_DTYPES: dict[int, npt.DTypeLike] = {
    MIL_pb2.FLOAT16: np.float16,
    MIL_pb2.FLOAT32: np.float32,
    MIL_pb2.INT8: np.int8,
    MIL_pb2.UINT8: np.uint8,
}
_BLOB_RECORD = struct.Struct("<IIQQ")
_BLOB_SENTINEL = 0xDEADBEEF
"""Blob storage v2 (coremltools ``mlmodel/src/MILBlob``): a weight's offset points at a record of
this sentinel, a type code, the bytes of data, and where the data starts."""


@dataclass(frozen=True)
class Convolutions:
    """Counts over the program's convolutions, transposed ones included.

    ``int8_weights`` have weights stored as int8; ``int8_inputs`` of them read a dequantized
    activation too; ``dtypes`` counts the types they compute.
    """

    total: int
    int8_weights: int
    int8_inputs: int
    dtypes: dict[str, int]


@dataclass(frozen=True)
class Structure:
    """A package's own account: see the fields' names; ``operators`` leaves out constants.

    ``faults`` lists weights that are not finite and scales that are not positive.
    """

    specification_version: int
    opset: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]
    convolutions: Convolutions
    weights_bytes: int
    weights_sha256: str
    faults: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Facts for a manifest, which has the signature already."""
        facts = asdict(self)
        for name in ("inputs", "outputs", "faults"):
            del facts[name]
        return facts


def read_structure(package: Path) -> Structure:
    """Reads a saved ``.mlpackage``.

    Raises:
        ArtifactError: a part is missing, truncated, or not an ML program.
    """
    try:
        model, folder = _read_model(package)
        weights = (folder / "weights" / "weight.bin").read_bytes()
        opset, program = _main(model)
        operations = list(_walk(program))
        faults = tuple(_faults(operations, weights))
    except (OSError, ValueError, KeyError, TypeError, DecodeError, struct.error) as error:
        raise ArtifactError(
            f"Core ML package {package}: got {error or type(error).__name__}, needed a whole "
            "ML program with its weights. Export again."
        ) from error
    return Structure(
        specification_version=model.specificationVersion,
        opset=opset,
        inputs=tuple(_tensor_spec(feature) for feature in model.description.input),
        outputs=tuple(_tensor_spec(feature) for feature in model.description.output),
        operators=dict(sorted(Counter(o.type for o in operations if o.type != "const").items())),
        convolutions=_convolutions(operations),
        weights_bytes=len(weights),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        faults=faults,
    )


def model_path(package: Path) -> Path:
    """Where ``Manifest.json`` says the package keeps its model."""
    manifest = json.loads((package / "Manifest.json").read_text())
    root = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
    return package / "Data" / str(root["path"])


def _read_model(package: Path) -> tuple[Any, Path]:
    path = model_path(package)
    model = Model_pb2.Model()
    model.ParseFromString(path.read_bytes())
    return model, path.parent


def _main(model: Any) -> tuple[str, Any]:
    """The opset and the block of the only function."""
    functions = model.mlProgram.functions
    if list(functions) != ["main"]:
        raise ValueError(f"functions {sorted(functions)}")
    specializations = functions["main"].block_specializations
    ((opset, block),) = specializations.items()
    return str(opset), block


def _walk(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _walk(inner)


def _tensor_spec(feature: Any) -> TensorSpec:
    if feature.type.WhichOneof("Type") == "imageType":
        image = feature.type.imageType
        channels = 3 if image.colorSpace == FeatureTypes_pb2.ImageFeatureType.RGB else 1
        return byte_spec(feature.name, (1, image.height, image.width, channels))
    array = feature.type.multiArrayType
    dtype = FeatureTypes_pb2.ArrayFeatureType.ArrayDataType.Name(array.dataType)
    return TensorSpec(feature.name, tuple(array.shape), dtype.lower(), "NCHW")


def _convolutions(operations: list[Any]) -> Convolutions:
    maker = {output.name: o.type for o in operations for output in o.outputs}
    found = [o for o in operations if o.type in _CONVOLUTIONS]
    dtypes = Counter(MIL_pb2.DataType.Name(_dtype(o.outputs[0].type)).lower() for o in found)
    int8 = [o for o in found if maker.get(_argument(o, "weight")) in _WEIGHT_DEQUANTIZERS]
    return Convolutions(
        total=len(found),
        int8_weights=len(int8),
        int8_inputs=sum(maker.get(_argument(o, "x")) == "dequantize" for o in int8),
        dtypes=dict(sorted(dtypes.items())),
    )


def _argument(operation: Any, name: str) -> str:
    return str(operation.inputs[name].arguments[0].name)


def _dtype(value_type: Any) -> int:
    return int(value_type.tensorType.dataType)


def _faults(operations: list[Any], weights: bytes) -> Iterator[str]:
    constants: dict[str, npt.NDArray[Any]] = {}
    for operation in operations:
        values = {name: _values(value, weights) for name, value in operation.attributes.items()}
        name = operation.outputs[0].name if operation.outputs else operation.type
        if not all(np.isfinite(array).all() for array in values.values()):
            yield f"{name} is not finite"
        if operation.type == "const":
            constants[name] = values["val"]
        if operation.type in _SCALED:
            stored = "scale" in values
            scale = values["scale"] if stored else constants[_argument(operation, "scale")]
            if scale.size == 0 or not (scale > 0).all():
                yield f"the scale of {name} is not positive"


def _values(value: Any, weights: bytes) -> npt.NDArray[Any]:
    """A tensor's numbers; empty for types that hold no weights (texts, switches, sizes)."""
    tensor_type = value.type.tensorType
    dtype = _DTYPES.get(tensor_type.dataType)
    if value.WhichOneof("value") == "blobFileValue":
        array = np.frombuffer(_blob(weights, value.blobFileValue.offset), dtype or np.uint8)
        needed = math.prod(d.constant.size for d in tensor_type.dimensions)
        if dtype is not None and array.size != needed:
            raise ValueError(f"a weight of {array.size} values where {needed} belong")
        return array
    tensor = value.immediateValue.tensor
    if dtype is np.float32:
        return np.asarray(tensor.floats.values, np.float32)
    return np.frombuffer(tensor.bytes.values, dtype or np.uint8)


def _blob(weights: bytes, offset: int) -> bytes:
    sentinel, _, size, start = _BLOB_RECORD.unpack_from(weights, offset)
    if sentinel != _BLOB_SENTINEL or start + size > len(weights):
        raise ValueError(f"no whole weight at byte {offset} of weight.bin")
    return weights[start : start + size]
