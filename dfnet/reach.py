"""A network's receptive field as artifacts state it; dfnet.receptive_field finds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dfnet.artifact import Artifact
from dfnet.errors import ArtifactError

FACT = "receptive_field"
"""The field's name among the facts of a manifest."""


@dataclass(frozen=True)
class Halo:
    """Where along one axis a frame may be cut between two tiles, and what each must see.

    At every multiple ``m`` of the alignment: pixels from ``m + cut`` on depend on nothing before
    ``m - before``, and those up to it on nothing from ``m + after`` on. Both are multiples of the
    alignment, for the ``cut`` that makes their sum least.
    """

    cut: int
    before: int
    after: int


@dataclass(frozen=True)
class ReceptiveField:
    """Input pixels that an output pixel depends on: ``top`` above it, ``left`` of it, and so on.

    They hold for every pixel and are reached by some. Frames moved by multiples of ``alignment``
    pixels are computed alike, so tiles start there.
    """

    top: int
    left: int
    bottom: int
    right: int
    alignment: int
    rows: Halo
    columns: Halo

    def __str__(self) -> str:
        return f"{self.top}+1+{self.bottom} x {self.left}+1+{self.right} pixels"


def read_receptive_field(artifact: Artifact) -> ReceptiveField:
    """What the artifact's manifest says.

    Raises:
        ArtifactError: it says nothing, or that the field is not known.
    """
    fact: dict[str, Any] | None = artifact.manifest.facts.get(FACT)
    if fact is None:
        raise ArtifactError(
            f"Artifact {artifact.id}: got a manifest without facts.{FACT}, needed it to cut "
            "a photo into tiles. Export again."
        )
    if "unknown" in fact:
        raise ArtifactError(f"Artifact {artifact.id}: cannot be tiled. {fact['unknown']}")
    try:
        halos = {axis: Halo(**fact[axis]) for axis in ("rows", "columns")}
        return ReceptiveField(**{**fact, **halos})
    except (TypeError, KeyError) as error:
        raise ArtifactError(
            f"Artifact {artifact.id}: got facts.{FACT} = {fact}, needed the fields of "
            "dfnet.reach.ReceptiveField. Export again."
        ) from error
