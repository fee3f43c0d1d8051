"""Identity of a build, and finding the one that is already on disk."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dfnet.artifact import MANIFEST_NAME, Artifact, read_artifact
from dfnet.errors import ArtifactError, MissingDependencyError
from export.plan import Job
from export.variants import RUNTIMES
from quantize.recipe import find_recipe

SHARED_DISTRIBUTIONS = ("torch", "torchao")
"""Distributions that every build goes through, whatever its runtime."""

_ROOT = Path(__file__).resolve().parent.parent
_SHARED_SOURCES = (
    "dfnet/artifact.py",
    "dfnet/manifest.py",
    "dfnet/capture.py",
    "dfnet/defocus.py",
    "dfnet/model.py",
    "dfnet/operator_reach.py",
    "dfnet/reach.py",
    "dfnet/receptive_field.py",
    "dfnet/signature.py",
    "dfnet/tensors.py",
    "quantize/*.py",
    "export/*.py",
)
_NOT_IN_A_BUILD = frozenset(
    f"export/{name}.py"
    for name in ("__main__", "build_report", "command", "plan", "sdk_log", "variants", "workplace")
) | {f"quantize/{name}.py" for name in ("__main__", "search", "sensitivity", "stability")}
"""Sources that decide which files are made and how that is told, not what a file holds."""
_KEY_CHARACTERS = 8


@dataclass(frozen=True)
class Ingredients:
    """What goes into every build of one command: hashes of its inputs."""

    checkpoint_sha256: str
    calibration_sha256: str

    def key(self, job: Job) -> str:
        """Hex sha256 over everything that decides what the job's file holds.

        The inputs, the recipe, runtime, backend, resolution, the versions of the tools, and this
        project's own sources. Imports no SDK.

        Raises:
            MissingDependencyError: a distribution of the runtime is not installed.
        """
        recipe = find_recipe(job.variant.recipe)
        parts = {
            "checkpoint": self.checkpoint_sha256,
            "calibration": self.calibration_sha256 if recipe.needs_calibration else None,
            "recipe": recipe.to_json(),
            "runtime": job.runtime,
            "platform": job.variant.platform,
            "backend": job.variant.backend,
            "resolution": job.sizes,
            "tools": tool_versions(job.runtime),
            "sources": sources_sha256(job.runtime),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def artifact_id(job: Job, key: str) -> str:
    """The artifact's folder name: readable first, then the start of its key."""
    return f"{job.stem}-{key[:_KEY_CHARACTERS]}"


def tool_versions(runtime: str) -> dict[str, str]:
    """Installed versions of the distributions that decide what ``runtime`` writes.

    Raises:
        MissingDependencyError: names the first one that is not installed.
    """
    versions = {}
    for name in (*SHARED_DISTRIBUTIONS, *RUNTIMES[runtime].distributions):
        try:
            versions[name] = version(name)
        except PackageNotFoundError as error:
            raise MissingDependencyError(
                f"Runtime {runtime}: not available here ({name} is not installed). Run "
                "`make setup`; a runtime without wheels for this system stays unavailable."
            ) from error
    return versions


def sources_sha256(runtime: str) -> str:
    """Hex sha256 of this project's own files that decide what ``runtime`` writes.

    The other runtimes' files do not count, since runtimes never import each other.
    """
    others = {_file_of(key) for key in RUNTIMES if key != runtime}
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _SHARED_SOURCES for path in _ROOT.glob(pattern)}):
        name = path.relative_to(_ROOT).as_posix()
        if name not in others and name not in _NOT_IN_A_BUILD:
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _file_of(runtime: str) -> str:
    module, _, _ = RUNTIMES[runtime].location.partition(":")
    return module.replace(".", "/") + ".py"


def find_built(folder: Path, key: str) -> Artifact | None:
    """The verified artifact in ``folder`` if it was built with ``key``; None if there is none.

    Raises:
        ArtifactError: there is one, but its file or manifest was altered.
    """
    if not (folder / MANIFEST_NAME).exists():
        return None
    artifact = read_artifact(folder)
    if artifact.manifest.build_key != key:
        raise ArtifactError(
            f"Artifact {folder}: got build key {artifact.manifest.build_key[:12]}, needed "
            f"{key[:12]}. The manifest was changed after export. Export again."
        )
    return artifact


def remove_others(keep: Path, job: Job) -> None:
    """Removes earlier builds of ``job`` beside the folder ``keep``."""
    pattern = re.compile(re.escape(job.stem) + rf"-[0-9a-f]{{{_KEY_CHARACTERS}}}")
    for folder in keep.parent.iterdir():
        if folder.name != keep.name and pattern.fullmatch(folder.name):
            shutil.rmtree(folder)


def remove_leftovers(folder: Path) -> None:
    """Removes the scratch folders of runs that were killed outright."""
    for runtime in RUNTIMES:
        for scratch in folder.glob(f".{runtime}-*"):
            shutil.rmtree(scratch)
