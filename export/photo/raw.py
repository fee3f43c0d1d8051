"""Pictures as plain bytes in a file, read and written by window."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""uint8 (height, width, channels)."""


@dataclass(frozen=True)
class RawPicture:
    """uint8 pixels of ``height`` x ``width`` x ``channels`` in ``path``, row by row.

    Windows are read and written with system calls, not through a memory map, whose pages would
    count as this process's memory once touched.
    """

    path: Path
    height: int
    width: int
    channels: int

    @property
    def bytes(self) -> int:
        return self.height * self.width * self.channels

    def allocate(self) -> None:
        """Makes the file as long as its pixels need; what it holds stays."""
        with self.path.open("ab") as stream:
            stream.truncate(self.bytes)

    def read(self, top: int, left: int, height: int, width: int) -> Pixels:
        """A window; rows and columns beyond the bottom and right edge repeat the last ones."""
        inside = min(height, self.height - top), min(width, self.width - left)
        window = np.empty((*inside, self.channels), np.uint8)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            for row in range(inside[0]):
                os.preadv(descriptor, [window[row]], self._offset(top + row, left))
        finally:
            os.close(descriptor)
        beyond = (0, height - inside[0]), (0, width - inside[1]), (0, 0)
        return np.pad(window, beyond, mode="edge") if inside != (height, width) else window

    def write(self, top: int, left: int, window: Pixels) -> None:
        """Puts a window in its place; it is on the disk when this returns."""
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            for row, pixels in enumerate(np.ascontiguousarray(window)):
                os.pwritev(descriptor, [pixels], self._offset(top + row, left))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _offset(self, row: int, column: int) -> int:
        return (row * self.width + column) * self.channels
