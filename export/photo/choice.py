"""Whole frame or tiles: which of the offered files fits a memory budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dfnet.artifact import Artifact
from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.profiles import Resolution
from dfnet.reach import read_receptive_field
from dfnet.tiling import TilePlan, plan_tiles
from export.photo.memory import expected_mb


@dataclass(frozen=True)
class Choice:
    """A file, the tiles to run it on, and the peak memory expected of that."""

    artifact: Artifact
    plan: TilePlan
    expected_mb: float

    def __str__(self) -> str:
        plan = self.plan
        count = len(plan.tiles)
        tiles = "whole frame" if plan.whole_frame else f"{count} tiles of {plan.tile}"
        return f"photo {plan.photo}: {tiles}, halo ratio {plan.halo_ratio:.3f}"


def choose(artifacts: Sequence[Artifact], photo: Resolution, *, memory_mb: float | None) -> Choice:
    """The file that computes the fewest pixels among those that fit ``memory_mb``.

    A file whose own resolution is the photo's does it whole, which is the fewest.

    Raises:
        ArtifactError: a file does not state its receptive field, or the files are of different
            networks, runtimes or recipes.
        UnsupportedError: no file's resolution suits the photo, or none fits the budget.
    """
    _require_alike(artifacts)
    choices, reasons = [], []
    for artifact in _at_each_resolution(artifacts):
        tile = artifact.manifest.resolution
        try:
            plan = plan_tiles(photo, tile, read_receptive_field(artifact))
        except UnsupportedError as error:
            reasons.append(error)
            continue
        choices.append(Choice(artifact, plan, expected_mb(artifact.manifest, tile)))
    if not choices:
        raise reasons[0]
    fitting = [one for one in choices if memory_mb is None or one.expected_mb <= memory_mb]
    if not fitting:
        least = min(choices, key=lambda one: one.expected_mb)
        raise UnsupportedError(
            f"Memory: got a budget of {memory_mb:g} MB, needed about {least.expected_mb:.0f} for "
            f"tiles of {least.plan.tile}. Export with a smaller --resolution, or allow more."
        )
    return min(fitting, key=lambda one: one.plan.halo_ratio)


def _at_each_resolution(artifacts: Sequence[Artifact]) -> Iterator[Artifact]:
    """Every file, bundles once per resolution they hold."""
    for artifact in artifacts:
        for resolution in artifact.manifest.resolutions:
            yield artifact.at(resolution)


def _require_alike(artifacts: Sequence[Artifact]) -> None:
    kinds = {
        (m.checkpoint_sha256, m.runtime, m.backend, m.recipe["name"])
        for m in (artifact.manifest for artifact in artifacts)
    }
    if len(kinds) != 1:
        raise ArtifactError(
            f"Artifacts {', '.join(a.id for a in artifacts)}: got files of different networks, "
            "runtimes or recipes, needed one at several resolutions. Give those of one export."
        )
