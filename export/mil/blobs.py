"""Weights of an ML program: blob storage, version 2.

Layout (coremltools, ``mlmodel/src/MILBlob/Blob/StorageFormat.hpp``): a 64-byte file header that
starts with the number of blobs and the version; per tensor a 64-byte record of a sentinel, a type
code, the bytes of data and where they start. Little-endian.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

import numpy.typing as npt

from dfnet.errors import ArtifactError
from export.mil.dtypes import DType, dtype_of_blob, unpack

_HEADER = struct.Struct("<II")
_HEADER_BYTES = 64
_RECORD = struct.Struct("<IIQQ")
_SENTINEL = 0xDEADBEEF
_VERSION = 2


class BlobFile:
    """A weight file, mapped and not copied.

    Raises:
        ArtifactError: the file is missing, too short, or of another version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as stream:
                self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            _, version = _HEADER.unpack_from(self._bytes, 0)
        except (OSError, ValueError, struct.error) as error:
            raise self._fault(f"got {error}, needed a whole weight file") from error
        if len(self._bytes) < _HEADER_BYTES or version != _VERSION:
            raise self._fault(f"got storage version {version}, needed {_VERSION}")

    def read(self, offset: int, dtype: DType, count: int) -> npt.NDArray[Any]:
        """The ``count`` values whose record is at ``offset``, 1-D.

        Raises:
            ArtifactError: no such record, another type, or fewer bytes than that takes.
        """
        size = len(self._bytes)
        if not _HEADER_BYTES <= offset <= size - _RECORD.size:
            raise self._fault(f"got no weight at byte {offset} of {size}, needed one")
        sentinel, code, length, start = _RECORD.unpack_from(self._bytes, offset)
        if sentinel != _SENTINEL:
            raise self._fault(f"got no weight record at byte {offset}, needed one")
        stored, needed = dtype_of_blob(code), (count * dtype.bits + 7) // 8
        if stored.name != dtype.name:
            raise self._fault(
                f"got {stored.name} at byte {offset}, needed {dtype.name} as the program says"
            )
        if length < needed or start + needed > size:
            raise self._fault(f"got {length} bytes from {start} of {size}, needed {needed}")
        return unpack(self._bytes[start : start + needed], dtype, count)

    def _fault(self, what: str) -> ArtifactError:
        return ArtifactError(f"Core ML weights {self._path}: {what}. Export again.")
