"""Keeps the SDKs' pages of output out of the user's console."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

_OUTPUTS = (1, 2)
_C_LIBRARY = ctypes.CDLL(None)


class sdk_log:  # noqa: N801 - reads as a verb in `with sdk_log(path):`
    """Sends everything written to file descriptors 1 and 2 to the end of a log file.

    Descriptors, because C++ libraries write there directly, past ``sys.stderr``. What the
    commands print through ``dfnet.console`` goes to duplicates and still reaches the user. Blocks
    may be nested; the descriptors are restored however the block ends. An error that leaves the
    block gains a note naming the log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: list[int] = []

    def __enter__(self) -> None:
        log = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _flush()
            self._saved = [os.dup(output) for output in _OUTPUTS]
            for output in _OUTPUTS:
                os.dup2(log, output)
        finally:
            os.close(log)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # a full disk must not keep the descriptors from coming back
            _flush()
        for saved, output in zip(self._saved, _OUTPUTS, strict=True):
            os.dup2(saved, output)
            os.close(saved)
        self._saved = []
        note = f"What the SDK printed is in {self._path}."
        if isinstance(error, Exception) and note not in getattr(error, "__notes__", ()):
            error.add_note(note)


@contextmanager
def temporary_sdk_log() -> Iterator[None]:
    """``sdk_log`` to a temporary file, which is kept only when an error leaves the block."""
    descriptor, name = tempfile.mkstemp(prefix="dfnet-mobile-", suffix=".log")
    os.close(descriptor)
    with sdk_log(Path(name)):
        yield
    Path(name).unlink()


def _flush() -> None:
    """Empties Python's and C's buffers, so that text lands on the side where it was written."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    _C_LIBRARY.fflush(None)
