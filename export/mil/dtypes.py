"""Number formats of ML programs: their codes, their storage, and what they are computed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dfnet.errors import ArtifactError


@dataclass(frozen=True)
class DType:
    """One number format.

    ``bits`` is what a value takes in a file, ``storage`` the numpy type of unpacked values, and
    ``carrier`` the torch type that holds them during evaluation. fp16 travels as float32 values
    that float16 can represent, because float32 is what kernels accumulate in; integers too wide
    for torch's kernels travel in the next wider type.
    """

    name: str
    bits: int
    storage: npt.DTypeLike
    carrier: torch.dtype

    @property
    def is_float(self) -> bool:
        return self.carrier.is_floating_point

    @property
    def is_signed(self) -> bool:
        return self.name.startswith("int")


STRING = DType("string", 0, np.object_, torch.uint8)
"""Texts are parameters (a padding mode, a type's name), never tensors."""

# Codes of `enum DataType` in coremltools' MIL.proto; beside them, the type codes of its blob
# storage, version 2 (mlmodel/src/MILBlob/Blob/BlobDataType.hpp). None: such blobs do not exist.
_TABLE: tuple[tuple[int, int | None, DType], ...] = (
    (1, None, DType("bool", 8, np.bool_, torch.bool)),
    (2, None, STRING),
    (10, 1, DType("fp16", 16, np.float16, torch.float32)),
    (11, 2, DType("fp32", 32, np.float32, torch.float32)),
    (12, None, DType("fp64", 64, np.float64, torch.float64)),
    (21, 4, DType("int8", 8, np.int8, torch.int8)),
    (22, 6, DType("int16", 16, np.int16, torch.int16)),
    (23, 14, DType("int32", 32, np.int32, torch.int32)),
    (24, None, DType("int64", 64, np.int64, torch.int64)),
    (25, 8, DType("int4", 4, np.int8, torch.int8)),
    (31, 3, DType("uint8", 8, np.uint8, torch.uint8)),
    (32, 7, DType("uint16", 16, np.uint16, torch.int32)),
    (33, 15, DType("uint32", 32, np.uint32, torch.int64)),
    (35, 11, DType("uint4", 4, np.uint8, torch.uint8)),
    (36, 10, DType("uint2", 2, np.uint8, torch.uint8)),
    (37, 9, DType("uint1", 1, np.uint8, torch.uint8)),
    (38, 13, DType("uint6", 6, np.uint8, torch.uint8)),
    (39, 12, DType("uint3", 3, np.uint8, torch.uint8)),
)
_BY_CODE = {code: dtype for code, _, dtype in _TABLE}
_BY_BLOB_CODE = {blob: dtype for _, blob, dtype in _TABLE if blob is not None}
_BY_NAME = {dtype.name: dtype for _, _, dtype in _TABLE}


def dtype_of_code(code: int) -> DType:
    """The format with this code in ``MIL.proto``.

    Raises:
        ArtifactError: unknown code; lists the formats.
    """
    return _find(_BY_CODE, code, "data type code")


def dtype_of_blob(code: int) -> DType:
    """The format with this code in blob storage.

    Raises:
        ArtifactError: unknown code; lists the formats.
    """
    return _find(_BY_BLOB_CODE, code, "blob type code")


def dtype_named(name: str) -> DType:
    """The format that parameters such as ``output_dtype`` call ``name``.

    Raises:
        ArtifactError: unknown name; lists the formats.
    """
    return _find(_BY_NAME, name, "data type")


def _find(table: dict[Any, DType], key: object, what: str) -> DType:
    if key not in table:
        choices = ", ".join(f"{k} ({d.name})" for k, d in table.items())
        raise ArtifactError(
            f"Core ML program: got the {what} {key!r}, needed one of {choices}. Export again."
        )
    return table[key]


def unpack(raw: bytes, dtype: DType, count: int) -> npt.NDArray[Any]:
    """``count`` values of ``dtype`` from ``raw``, 1-D. Sub-byte values are packed back to back,
    least significant bit first, as blob storage has them.

    Raises:
        ValueError: ``raw`` is too short.
    """
    if dtype.bits >= 8:
        return np.frombuffer(raw, dtype.storage, count)
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=count * dtype.bits, bitorder="little")
    if bits.size < count * dtype.bits or len(raw) * 8 < count * dtype.bits:
        raise ValueError(f"{len(raw)} bytes for {count} values of {dtype.name}")
    weights = (1 << np.arange(dtype.bits)).astype(np.int16)
    values = (bits.reshape(count, dtype.bits) * weights).sum(axis=1, dtype=np.int16)
    if dtype.is_signed:
        values = np.where(values >= 1 << (dtype.bits - 1), values - (1 << dtype.bits), values)
    return np.asarray(values, dtype.storage)
