"""What a run has done so far, on disk, so that an interrupted one can go on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dfnet.artifact import Artifact
from dfnet.errors import ArtifactError
from dfnet.tiling import TilePlan
from export.photo.raw import Pixels, RawPicture
from export.photo.source import PhotoCapture

_FORMAT = 1
"""Raised when what scratch folders hold changes, so that older ones are not taken up."""

_DONE, _LOCK = "done.txt", ".lock"


@dataclass(frozen=True)
class Scratch:
    """The folder of one artifact, capture and plan, and the picture so far."""

    folder: Path
    picture: RawPicture

    def done(self) -> frozenset[int]:
        """Tiles whose pixels are in the picture."""
        path = self.folder / _DONE
        return frozenset(map(int, path.read_text().split())) if path.exists() else frozenset()

    def keep(self, number: int, top: int, left: int, window: Pixels) -> None:
        """Stores a finished tile's pixels, and only then that it is finished."""
        self.picture.write(top, left, window)
        part = self.folder / f"{_DONE}.part"
        part.write_text(" ".join(map(str, sorted(self.done() | {number}))))
        os.replace(part, self.folder / _DONE)


def identity(artifact: Artifact, capture: PhotoCapture, plan: TilePlan) -> str:
    """Hex sha256 of all that decides the picture: the file, the six pictures, and the tiles."""
    parts = {
        "format": _FORMAT,
        "artifact": artifact.manifest.artifact_sha256,
        "capture": capture.identity(),
        "plan": asdict(plan),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@contextmanager
def scratch_of(output: Path, key: str, plan: TilePlan) -> Iterator[Scratch]:
    """The scratch folder of ``key`` beside ``output``; removed when the block succeeds.

    Raises:
        ArtifactError: it cannot be written, or another run uses it.
    """
    folder = output.parent / f".{output.name}.{key[:16]}"
    size = plan.photo
    picture = RawPicture(folder / "picture.raw", size.height, size.width, 3)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("a") as lock:
            # The kernel releases the lock when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            picture.allocate()
            yield Scratch(folder, picture)
        shutil.rmtree(folder)
    except BlockingIOError as error:
        raise ArtifactError(
            f"Output {output}: got another run writing it, needed it to ourselves. Wait for it."
        ) from error
    except OSError as error:
        raise ArtifactError(
            f"Output {output}: cannot be written ({error.strerror or error}). Choose a writable "
            "--output with free space; the same command then goes on where it stopped."
        ) from error
