"""One process at a time where something is built."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfnet.errors import ArtifactError


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process builds ``folder``, and keeps others waiting meanwhile.

    Raises:
        ArtifactError: the lock, a file beside ``folder``, cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock").open("a", encoding="utf-8")
    except OSError as error:
        raise ArtifactError(
            f"Output {folder}: cannot be written ({error.strerror or error}). "
            "Choose a writable --output with free space."
        ) from error
    with lock:
        # The kernel releases it when the process ends, however it ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
