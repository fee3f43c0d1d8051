"""Files of a folder against the hashes that its manifest names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dfnet.artifact import sha256_of
from dfnet.errors import ArtifactError


def require_files(kind: str, folder: Path, files: Mapping[str, str]) -> None:
    """Checks every file of ``files``, hex sha256 by path inside ``folder``.

    Raises:
        ArtifactError: one is missing or another; names it as a ``kind``'s.
    """
    for name, needed in files.items():
        got = sha256_of(folder / name) if (folder / name).is_file() else "no file"
        if got != needed:
            raise ArtifactError(
                f"{kind} {folder / name}: got {got[:12]}, needed sha256 {needed[:12]}. "
                f"Delete {folder} and build it again."
            )
