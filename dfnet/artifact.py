"""An exported file and its manifest: write, read, verify.

artifacts/<platform>/<id>/model.<suffix>    a file, or a folder for .mlpackage
artifacts/<platform>/<id>/manifest.json     build facts only; written last
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dfnet.errors import ArtifactError
from dfnet.manifest import Manifest
from dfnet.profiles import Resolution

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class Artifact:
    """An exported file together with its manifest; of a bundle, seen at one resolution."""

    folder: Path
    manifest: Manifest

    @property
    def path(self) -> Path:
        return self.folder / self.manifest.artifact_file

    @property
    def id(self) -> str:
        """The folder's name, of a bundle with the resolution: unique within a platform."""
        name = self.folder.name
        return f"{name}@{self.manifest.resolution}" if self.manifest.entry else name

    def at(self, resolution: Resolution) -> Artifact:
        """The same file seen at one of its resolutions; raises as ``Manifest.at``."""
        return Artifact(self.folder, self.manifest.at(resolution))

    @property
    def views(self) -> tuple[Artifact, ...]:
        """The file at each of its resolutions; a file of one resolution is its only view."""
        return tuple(map(self.at, self.manifest.resolutions))


def read_artifact(folder: Path) -> Artifact:
    """Reads and verifies the artifact in ``folder``.

    Raises:
        ArtifactError: the manifest is missing or malformed, or the file is not the one it lists.
    """
    path = folder / MANIFEST_NAME
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"Manifest {path}: got {error}, needed the JSON written by export. Export again."
        ) from error
    if not isinstance(data, dict):
        raise ArtifactError(f"Manifest {path}: got no JSON object. Export again.")
    artifact = Artifact(folder, Manifest.from_json(data))
    verify_artifact(artifact)
    return artifact


def verify_artifact(artifact: Artifact) -> None:
    """Checks that the file on disk is the one its manifest names.

    Raises:
        ArtifactError: missing file or another hash.
    """
    if not artifact.path.exists():
        raise ArtifactError(
            f"Artifact {artifact.path}: the manifest lists it, but it is missing. Export again."
        )
    got = sha256_of(artifact.path)
    needed = artifact.manifest.artifact_sha256
    if got != needed:
        raise ArtifactError(
            f"Artifact {artifact.path}: got sha256 {got[:12]}, needed {needed[:12]}. "
            "The file was changed after export. Export again."
        )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest into ``folder``, whole or not at all."""
    temporary = folder / (MANIFEST_NAME + ".part")
    temporary.write_text(json.dumps(manifest.to_json(), indent=2, sort_keys=True) + "\n")
    os.replace(temporary, folder / MANIFEST_NAME)


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """A scratch folder beside ``target`` that becomes ``target`` when the block succeeds.

    On any exception, Ctrl-C included, the scratch folder is removed and ``target`` is left as it
    was.

    Raises:
        ArtifactError: the folder cannot be created or written (read-only, disk full).
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ArtifactError(_cannot_write(target, error)) from error
    try:
        yield scratch
        if target.exists():
            shutil.rmtree(target)
        # mkdtemp makes private folders; what is delivered is as readable as any other file.
        scratch.chmod(0o777 & ~_umask())
        os.replace(scratch, target)
    except OSError as error:
        raise ArtifactError(_cannot_write(target, error)) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _cannot_write(target: Path, error: OSError) -> str:
    return (
        f"Output {target}: cannot be written ({error.strerror or error}). "
        "Choose a writable --output with free space."
    )


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, or of a folder's relative file names and contents in sorted order."""
    digest = hashlib.sha256()
    if path.is_file():
        _add_file(digest, path)
        return digest.hexdigest()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        digest.update(file.stat().st_size.to_bytes(8, "little"))
        _add_file(digest, file)
    return digest.hexdigest()


def _add_file(digest: hashlib._Hash, path: Path) -> None:
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)


def bytes_of(path: Path) -> int:
    """Size in bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
