"""The folder that one export command writes to, one command at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from dfnet.errors import ArtifactError
from export.reuse import remove_leftovers

LOG_NAME = "export.log"
_LOCK_NAME = ".lock"


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """``folder``, created, found writable, ours alone, and free of what killed runs left.

    Raises:
        ArtifactError: it cannot be written, or another export is writing there.
    """
    with _open_lock(folder) as lock:
        try:
            # The kernel releases the lock when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArtifactError(
                f"Output {folder}: got another export writing there, needed it to ourselves. Wait "
                "for it to end, or choose another --output."
            ) from error
        remove_leftovers(folder)
        yield folder


def _open_lock(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK_NAME).open("a", encoding="utf-8")
        # A byte that reaches the disk shows that there is room for one.
        lock.truncate(0)
        lock.write("\n")
        lock.flush()
    except OSError as error:
        raise ArtifactError(
            f"Output {folder}: cannot be written ({error.strerror or error}). "
            "Choose a writable --output with free space."
        ) from error
    return lock
