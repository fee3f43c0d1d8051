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

    The file is mapped to read one window at a time, because touched pages count as this process's
    memory for as long as they are mapped; a system call per row would take several times as long.
    Writing happens while results are held, so it does without a map.
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
        shape = (self.height, self.width, self.channels)
        mapped = np.memmap(self.path, np.uint8, "r", shape=shape)
        inside = mapped[top : top + height, left : left + width]
        beyond = [(0, size - got) for size, got in zip((height, width), inside.shape, strict=False)]
        window: Pixels = np.pad(inside, [*beyond, (0, 0)], mode="edge")
        return window

    def write(self, top: int, left: int, window: Pixels) -> None:
        """Puts a window in its place; it is on the disk when this returns."""
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            for row, pixels in enumerate(np.ascontiguousarray(window)):
                offset = ((top + row) * self.width + left) * self.channels
                os.pwritev(descriptor, [pixels], offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
