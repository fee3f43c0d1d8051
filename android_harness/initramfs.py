"""Writing a folder as an initial RAM file system, the archive a kernel boots from.

The format is cpio "newc" (Linux: Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MAGIC = "070701"
_TRAILER = "TRAILER!!!"
_CONSOLE = (5, 1)
"""Major and minor number of /dev/console, which the kernel opens before init runs."""


def write_initramfs(root: Path, target: Path) -> None:
    """Writes everything in ``root``, owned by root and without times, so that equal is equal.

    Not compressed: unpacking costs an emulated core more than the file costs the disk.
    """
    with target.open("wb") as stream:
        for number, (name, path) in enumerate(_entries(root), start=1):
            mode = path.lstat().st_mode
            _write_entry(stream, number, name, mode, _content(path, mode))
        _write_entry(stream, 0, "dev/console", stat.S_IFCHR | 0o600, b"", device=_CONSOLE)
        _write_entry(stream, 0, _TRAILER, 0, b"")


def _entries(root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob("*")):
        yield path.relative_to(root).as_posix(), path


def _content(path: Path, mode: int) -> bytes:
    if stat.S_ISLNK(mode):
        return os.fsencode(path.readlink())
    return path.read_bytes() if stat.S_ISREG(mode) else b""


def _write_entry(
    stream: BinaryIO,
    number: int,
    name: str,
    mode: int,
    content: bytes,
    *,
    device: tuple[int, int] = (0, 0),
) -> None:
    encoded = os.fsencode(name) + b"\0"
    owner, links, time, disk, checksum = (0, 0), 1, 0, (0, 0), 0
    size = len(content)
    numbers = (number, mode, *owner, links, time, size, *disk, *device, len(encoded), checksum)
    header = _MAGIC + "".join(f"{value:08x}" for value in numbers)
    for part in (header.encode() + encoded, content):
        stream.write(part + b"\0" * (-len(part) % 4))
