"""Results that survive an interruption: one JSON line per finished measurement."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dfnet.errors import ArtifactError


class Journal:
    """Measurements by key in a file of JSON lines; what was recorded before is there again.

    A line is written whole, in one go. A line that was cut short all the same, by a full disk or a
    loss of power, is dropped when the file is opened.

    Raises:
        ArtifactError: the file cannot be read or written, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_bytes() if path.exists() else b""
            whole = text[: text.rfind(b"\n") + 1]
            if whole != text:
                os.truncate(path, len(whole))
            self._rows = dict(_read_line(line) for line in whole.splitlines())
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from error
        except (ValueError, KeyError, TypeError) as error:
            raise _unusable(path, f"a line that is no measurement ({error})") from error

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> Any:
        return self._rows[key]

    def record(self, key: str, value: Any) -> None:
        """Adds a measurement; it is on disk when this returns."""
        line = json.dumps({"key": key, "value": value}, allow_nan=False) + "\n"
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _unusable(self._path, error.strerror or str(error)) from error
        self._rows[key] = value


def write_json(path: Path, data: Any) -> None:
    """Writes ``path`` whole or not at all.

    Raises:
        ArtifactError: it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error


def _read_line(line: bytes) -> tuple[str, Any]:
    row = json.loads(line)
    return row["key"], row["value"]


def _unusable(path: Path, what: str) -> ArtifactError:
    return ArtifactError(
        f"Results {path}: got {what}, needed a file that a study can write. Remove it, or choose "
        "another --output."
    )
