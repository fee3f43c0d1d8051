"""The graphs that artifacts are compared with, from the trained network to the quantized one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from torch import nn

from benchmarks.parity import FUSED_BARS, GRAPH_BARS
from benchmarks.verdict import Bar
from dfnet.captureset import CaptureSet, require_disjoint
from dfnet.checkpoint import Checkpoint
from dfnet.errors import ArtifactError
from dfnet.manifest import Manifest
from export import RUNTIMES, load_runtime
from quantize.fuse import fuse
from quantize.program import Program
from quantize.ptq import quantize
from quantize.recipe import Recipe, find_recipe


@dataclass(frozen=True)
class Link:
    """One graph of the chain: its name, what identifies its outputs, how to make it, and the bars
    of the hop that leads to it (empty for the first)."""

    name: str
    identity: tuple[object, ...]
    network: Callable[[], nn.Module]
    bars: tuple[Bar, ...] = ()


class Graphs:
    """The graphs that artifacts are compared with, rebuilt at most once each.

    ``checkpoint`` and ``calibration`` are called only when a graph has to be rebuilt. ``captures``
    are those that judge: calibration must share nothing with them. ``store`` holds the quantized
    programs that exports kept.
    """

    def __init__(
        self,
        checkpoint: Callable[[], Checkpoint],
        calibration: Callable[[], CaptureSet],
        captures: CaptureSet,
        store: Path,
    ) -> None:
        self._store = store
        self._load_checkpoint = checkpoint
        self._open_calibration = calibration
        self._captures = captures
        self._programs: dict[tuple[str, str], Program] = {}

    def chain(self, manifest: Manifest) -> tuple[Link, ...]:
        """What an artifact descends from, in order.

        ``torch`` is the checkpoint's own network; ``fused`` the same with branches and norms
        folded, which recipes without calibration lower; for others their quantized graph follows.
        """
        recipe, checkpoint = recipe_of(manifest).of_program, manifest.checkpoint_sha256
        links = (
            Link("torch", ("torch", checkpoint), partial(self._trained, manifest)),
            Link("fused", ("fused", checkpoint), partial(self._folded, manifest), FUSED_BARS),
        )
        if not recipe.fused:
            return links[:1]
        if not recipe.needs_calibration:
            return links
        identity = (quantized_by(manifest), recipe.to_json(), checkpoint)
        quantized = Link(
            f"{recipe.name} graph",
            (*identity, manifest.calibration_sha256, _program_sha256(manifest)),
            partial(self._quantized, manifest, recipe),
            GRAPH_BARS[recipe.precision],
        )
        return (*links, quantized)

    def _trained(self, manifest: Manifest) -> nn.Module:
        got, needed = self._checkpoint.sha256, manifest.checkpoint_sha256
        if got != needed:
            raise ArtifactError(
                f"Artifact {manifest.runtime} {recipe_of(manifest).name}: exported from checkpoint "
                f"{needed[:12]}, got {got[:12]} to compare with. Give the --checkpoint it was "
                "exported from, or export again."
            )
        return self._checkpoint.network

    def _folded(self, manifest: Manifest) -> nn.Module:
        self._trained(manifest)
        return self._fused

    def _quantized(self, manifest: Manifest, recipe: Recipe) -> nn.Module:
        self._trained(manifest)
        program = self._program(quantized_by(manifest), recipe)
        got = None if program.calibration is None else program.calibration.sha256
        if got != manifest.calibration_sha256:
            raise ArtifactError(
                f"Artifact {manifest.runtime} {recipe.name}: calibrated with "
                f"{manifest.calibration_sha256}, got {got} to compare with. Give the "
                "--calibration it was exported with, or export again."
            )
        made = getattr(program, "sha256", None)
        if made != _program_sha256(manifest):
            raise ArtifactError(
                f"Artifact {manifest.runtime} {recipe.name}: lowered from the quantized program "
                f"{_program_sha256(manifest)}, got {made} to compare with. Export again."
            )
        return program.module()

    def _program(self, maker: str, recipe: Recipe) -> Program:
        if (maker, recipe.name) not in self._programs:
            make = (
                load_runtime(maker).quantize
                if maker in RUNTIMES
                else partial(quantize, store=self._store)
            )
            self._programs[maker, recipe.name] = make(self._fused, recipe, self._calibration)
        return self._programs[maker, recipe.name]

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return self._load_checkpoint()

    @cached_property
    def _calibration(self) -> CaptureSet:
        calibration = self._open_calibration()
        require_disjoint(calibration, self._captures)
        return calibration

    @cached_property
    def _fused(self) -> nn.Module:
        first = self._captures.load(self._captures.ids[0])
        return fuse(self._checkpoint.network, [first.feed(target) for target in first.targets])


def recipe_of(manifest: Manifest) -> Recipe:
    """The recipe an artifact was built with.

    Raises:
        ArtifactError: the recipe of that name is another one by now.
    """
    recipe = find_recipe(str(manifest.recipe.get("name")))
    if _ordered(recipe.to_json()) != _ordered(manifest.recipe):
        raise ArtifactError(
            f"Artifact {manifest.runtime} {recipe.name}: exported with another definition of this "
            "recipe. Export again."
        )
    return recipe


def _ordered(recipe: Mapping[str, object]) -> str:
    """One text for a recipe, whether it comes from the table or from a file."""
    return json.dumps(recipe, sort_keys=True)


def quantized_by(manifest: Manifest) -> str:
    """The runtime that quantized the network its own way, or ``shared``."""
    return str(manifest.facts.get("quantized_by", "shared"))


def _program_sha256(manifest: Manifest) -> object:
    return manifest.facts.get("program_sha256")
