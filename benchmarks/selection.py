"""The artifacts on disk, and those of them that a command is asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfnet.artifact import MANIFEST_NAME, Artifact, read_artifact
from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.profiles import Resolution
from export.variants import PLATFORMS, RUNTIMES
from quantize.recipe import find_recipe


@dataclass(frozen=True)
class Choice:
    """Which artifacts; what is empty or None means all.

    Raises:
        UnsupportedError: an unknown platform, runtime or recipe; lists those there are.
    """

    platform: str | None = None
    runtimes: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    resolutions: tuple[Resolution, ...] = ()

    def __post_init__(self) -> None:
        _require_known("Platform", (self.platform,) if self.platform else (), PLATFORMS)
        _require_known("Runtime", self.runtimes, RUNTIMES)
        for recipe in self.recipes:
            find_recipe(recipe)

    def __contains__(self, artifact: Artifact) -> bool:
        manifest = artifact.manifest
        return (
            self.platform in (None, manifest.platform)
            and (not self.runtimes or manifest.runtime in self.runtimes)
            and (not self.recipes or manifest.recipe.get("name") in self.recipes)
            and (not self.resolutions or manifest.resolution in self.resolutions)
        )


def read_artifacts(output: Path) -> tuple[Artifact, ...]:
    """Every artifact in ``output``/<platform>/, verified against its manifest; a bundle is one
    per resolution.

    Raises:
        ArtifactError: a file or manifest is missing or altered.
    """
    folders = (
        manifest.parent
        for platform in PLATFORMS
        for manifest in sorted((output / platform).glob(f"*/{MANIFEST_NAME}"))
    )
    # Folders with a dot are builds in progress.
    found = (read_artifact(folder) for folder in folders if folder.name[0] != ".")
    return tuple(view for artifact in found for view in artifact.views)


def choose(artifacts: Sequence[Artifact], choice: Choice, *, output: Path) -> tuple[Artifact, ...]:
    """The artifacts of ``choice``.

    Raises:
        ArtifactError: there are none, so there would be nothing to judge.
    """
    chosen = tuple(artifact for artifact in artifacts if artifact in choice)
    if not chosen:
        there = ", ".join(artifact.id for artifact in artifacts) or "none at all"
        raise ArtifactError(
            f"Artifacts in {output}: got none that were asked for, needed at least one; there are "
            f"{there}. Run `make export-{choice.platform or 'android'}` first."
        )
    return chosen


def _require_known(kind: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise UnsupportedError(f"{kind} {name!r} is unknown. Choose one of {', '.join(known)}.")
