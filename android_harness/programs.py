"""Programs of the system: found or named with the line that installs them, and run to their end."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from dfnet.errors import DeviceError, MissingDependencyError

_SHOWN = 400
"""Characters of a failed program's last words that an error shows."""


def require_program(name: str, package: str, *, purpose: str) -> str:
    """The path of the program ``name``, which Debian and Ubuntu have in ``package``.

    Raises:
        MissingDependencyError: it is not on the PATH.
    """
    found = shutil.which(name)
    if found is None:
        raise MissingDependencyError(
            f"Program {name}: got none on the PATH, needed it to {purpose}. {install_line(package)}"
        )
    return found


def install_line(package: str) -> str:
    """What to type on Debian or Ubuntu to get ``package``."""
    return f"Install it: sudo apt-get install --no-install-recommends {package}"


def run_program(
    command: Sequence[str | Path],
    *,
    doing: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 600.0,
) -> str:
    """Runs ``command`` without a shell and gives what it wrote to standard output.

    Raises:
        DeviceError: it failed or took longer than ``timeout_s``; shows its last words.
    """
    try:
        ended = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"{doing}: {command[0]} took over {timeout_s:.0f} s, needed less. Try again."
        ) from error
    if ended.returncode != 0:
        words = " ".join((ended.stderr or ended.stdout).decode(errors="replace").split())
        raise DeviceError(
            f"{doing}: {Path(command[0]).name} ended with {ended.returncode} "
            f"({words[-_SHOWN:] or 'no message'}), needed 0."
        )
    return ended.stdout.decode(errors="replace")
