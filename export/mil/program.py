"""An ML program as plain data, read from its protobuf.

Source of the format: coremltools' ``mlmodel/format/MIL.proto``. Nothing is dropped: what this
reader does not know is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dfnet.errors import ArtifactError
from export.mil.dtypes import STRING, DType, dtype_of_code, unpack

ReadBlob = Callable[[str, int, DType, int], npt.NDArray[Any]]
"""(weight file, offset, dtype, count) -> that many values, 1-D."""


@dataclass(frozen=True)
class TensorType:
    """What a program declares of a tensor. A None in ``shape`` is a size known only at run time;
    ``shape`` is None where even the rank is. ``is_state`` marks a function's mutable state."""

    dtype: DType
    shape: tuple[int | None, ...] | None
    is_state: bool = False


@dataclass(frozen=True)
class Constant:
    """A value in the file. ``array`` has the storage type of ``dtype``; texts are objects."""

    dtype: DType
    array: npt.NDArray[Any]


@dataclass(frozen=True)
class Operation:
    """One operation. ``inputs`` maps a parameter to the names or constants bound to it;
    ``attributes`` are parameters that old compressed weights carry outside of the inputs."""

    type: str
    inputs: dict[str, tuple[str | Constant, ...]]
    outputs: tuple[tuple[str, TensorType], ...]
    blocks: tuple[Block, ...] = ()
    attributes: dict[str, Constant] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its first output's, or its type where it has none."""
        return self.outputs[0][0] if self.outputs else self.type


@dataclass(frozen=True)
class Block:
    """Operations in order; ``outputs`` are names."""

    inputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]

    def walk(self) -> Iterator[Operation]:
        """Every operation, those of inner blocks after the one they belong to."""
        for operation in self.operations:
            yield operation
            for block in operation.blocks:
                yield from block.walk()


@dataclass(frozen=True)
class Function:
    """One function of a program, for the opset it names."""

    name: str
    opset: str
    inputs: dict[str, TensorType]
    body: Block


def read_function(name: str, message: Any, read_blob: ReadBlob) -> Function:
    """A ``Function`` message as data.

    Raises:
        ArtifactError: the function has no body for its opset, or holds something unknown.
    """
    if message.opset not in message.block_specializations:
        raise ArtifactError(
            f"Core ML function {name}: got bodies for {sorted(message.block_specializations)}, "
            f"needed one for its opset {message.opset!r}. Export again."
        )
    body = _Reader(read_blob).block(message.block_specializations[message.opset])
    inputs = {i.name: tensor_type(i.type) for i in message.inputs}
    return Function(name, message.opset, inputs, body)


def tensor_type(message: Any) -> TensorType:
    """A ``ValueType`` message as a tensor's type.

    Raises:
        ArtifactError: it is a list, a tuple or a dictionary.
    """
    kind = message.WhichOneof("type")
    if kind == "stateType":
        inner = tensor_type(message.stateType.wrappedType)
        return TensorType(inner.dtype, inner.shape, is_state=True)
    if kind != "tensorType":
        raise ArtifactError(
            f"Core ML program: got a value of {kind or 'no type'}, needed a tensor. Export "
            "a network without lists."
        )
    dtype = dtype_of_code(message.tensorType.dataType)
    dimensions = message.tensorType.dimensions
    if any(d.WhichOneof("dimension") == "unknown" and d.unknown.variadic for d in dimensions):
        return TensorType(dtype, None)
    return TensorType(
        dtype,
        tuple(
            d.constant.size if d.WhichOneof("dimension") == "constant" else None for d in dimensions
        ),
    )


class _Reader:
    def __init__(self, read_blob: ReadBlob) -> None:
        self._read_blob = read_blob

    def block(self, message: Any) -> Block:
        return Block(
            tuple(i.name for i in message.inputs),
            tuple(self._operation(o) for o in message.operations),
            tuple(message.outputs),
        )

    def _operation(self, message: Any) -> Operation:
        return Operation(
            type=message.type,
            inputs={
                name: tuple(self._binding(one) for one in argument.arguments)
                for name, argument in message.inputs.items()
            },
            outputs=tuple((o.name, tensor_type(o.type)) for o in message.outputs),
            blocks=tuple(self.block(b) for b in message.blocks),
            attributes={
                name: self._constant(value)
                for name, value in message.attributes.items()
                if name != "name"
            },
        )

    def _binding(self, message: Any) -> str | Constant:
        if message.WhichOneof("binding") == "name":
            return str(message.name)
        return self._constant(message.value)

    def _constant(self, message: Any) -> Constant:
        declared = tensor_type(message.type)
        if declared.shape is None or None in declared.shape:
            raise ArtifactError("Core ML constant: got no fixed shape, needed one. Export again.")
        shape = tuple(int(n or 0) for n in declared.shape)
        count = math.prod(shape)
        if message.WhichOneof("value") == "blobFileValue":
            blob = message.blobFileValue
            flat = self._read_blob(blob.fileName, blob.offset, declared.dtype, count)
        else:
            flat = _immediate(message.immediateValue.tensor, declared.dtype, count)
        return Constant(declared.dtype, flat.reshape(shape))


def _immediate(message: Any, dtype: DType, count: int) -> npt.NDArray[Any]:
    kind = message.WhichOneof("value")
    if kind is None:
        if count:
            raise ArtifactError("Core ML constant: got no values, needed some. Export again.")
        return np.empty(0, dtype.storage)
    values = getattr(message, kind).values
    try:
        flat = unpack(values, dtype, count) if kind == "bytes" else _numbers(values, dtype)
    except ValueError as error:
        raise ArtifactError(f"Core ML constant: got {error}. Export again.") from error
    if flat.size == 1 < count:
        # A single number stands for a tensor filled with it; a view, however large that is.
        flat = np.broadcast_to(flat, (count,))
    if flat.size != count:
        raise ArtifactError(
            f"Core ML constant: got {flat.size} values, needed {count}. Export again."
        )
    return flat


def _numbers(values: Any, dtype: DType) -> npt.NDArray[Any]:
    flat = np.empty(len(values), np.object_)
    flat[:] = list(values)
    return flat if dtype is STRING else flat.astype(dtype.storage)
