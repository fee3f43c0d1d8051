"""Finding and opening an exported file: the one module of dfnet that knows export/."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfnet.artifact import MANIFEST_NAME, Artifact, read_artifact
from dfnet.errors import ArtifactError
from dfnet.profiles import Resolution
from dfnet.runner import Runner
from export.photo.opening import open_runner
from export.sdk_log import temporary_sdk_log


def find_artifact(path: Path) -> Artifact:
    """The artifact in the folder ``path``, or the one whose model file ``path`` is; verified.

    Raises:
        ArtifactError: there is none, or the file is not the one its manifest names.
    """
    folder = path if (path / MANIFEST_NAME).is_file() else path.parent
    if not (folder / MANIFEST_NAME).is_file():
        raise ArtifactError(
            f"Artifact {path}: got no {MANIFEST_NAME} there, needed a folder that export wrote or "
            "the model file in it. Run `make export-android`, which lists what it makes."
        )
    artifact = read_artifact(folder)
    if path not in (folder, artifact.path):
        raise ArtifactError(
            f"Artifact {path}: its manifest is about {artifact.path.name}. Give that file."
        )
    return artifact


def resolution_of(artifact: Artifact) -> Resolution:
    """The frame that the file takes."""
    return artifact.manifest.resolution


@contextmanager
def opened(artifact: Artifact, *, threads: int) -> Iterator[Runner]:
    """The file, loaded; what its SDK prints is kept out of the console.

    Raises:
        UnsupportedError: nothing on this machine can execute it.
        ArtifactError: it cannot be loaded.
    """
    with temporary_sdk_log(), open_runner(artifact, threads=threads) as runner:
        yield runner
