"""What the files of one export share: runtimes, the fused network, quantized graphs."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from dfnet.captureset import CaptureSet
from dfnet.console import Progress
from dfnet.receptive_field import describe_receptive_field
from export import load_runtime
from export.app_io import AppProgram
from export.bundle import lower_bundle
from export.plan import Job
from export.reuse import Ingredients
from export.runtime import Lowered, Runtime
from export.sdk_log import sdk_log
from quantize.fuse import fuse
from quantize.program import Program
from quantize.ptq import quantize
from quantize.recipe import Recipe, find_recipe

SHARED = "shared"
"""Who quantizes what all runtimes share."""

PROOF_CAPTURES = 2
"""Captures on which fusing is proved equal; every target of each."""


class Workshop:
    """What the jobs share: each runtime loaded once, one fused network, one program per recipe.

    All of it is made when a job first needs it, so that a rerun with nothing to do loads no SDK.
    """

    def __init__(
        self,
        network: nn.Module,
        calibration: CaptureSet,
        ingredients: Ingredients,
        log: Path,
        progress: Progress,
        store: Path,
    ) -> None:
        self._store = store
        self.log = log
        self.progress = progress
        self.ingredients = ingredients
        self._network = network
        self._calibration = calibration
        self._runtimes: dict[str, Runtime] = {}
        self._programs: dict[tuple[str, str], Program] = {}

    @cached_property
    def fused(self) -> nn.Module:
        """The network with its blocks folded, proved equal on real captures."""
        with self.progress.step("Fuse the network", counts=False), sdk_log(self.log):
            captures = map(self._calibration.load, self._calibration.ids[:PROOF_CAPTURES])
            feeds = [capture.feed(target) for capture in captures for target in capture.targets]
            return fuse(self._network, feeds)

    @cached_property
    def receptive_field(self) -> dict[str, Any]:
        """How far the network looks, which tiles must know; see ``dfnet.reach``."""
        with sdk_log(self.log):
            return describe_receptive_field(self.fused)

    def program(self, job: Job, fused: nn.Module) -> Program:
        """The job's quantized graph: the shared one, unless its runtime makes its own."""
        asked = find_recipe(job.variant.recipe)
        runtime, recipe = self._runtime(job.runtime), asked.of_program
        maker = self.maker(job)
        if (maker, recipe.name) not in self._programs:
            with self.progress.step(f"Quantize: {recipe.name}", counts=False), sdk_log(self.log):
                network = fused if recipe.fused else self._network.eval()
                program = self._quantize(runtime, network, recipe, shared=maker == SHARED)
            self._programs[maker, recipe.name] = program
        made = self._programs[maker, recipe.name]
        return AppProgram(made, asked) if asked.app_io else made

    def maker(self, job: Job) -> str:
        """Who quantizes: ``shared``, or the runtime's key when it does so itself."""
        own = self._runtime(job.runtime).quantizes_itself(find_recipe(job.variant.recipe))
        return job.runtime if own else SHARED

    def _quantize(
        self, runtime: Runtime, fused: nn.Module, recipe: Recipe, *, shared: bool
    ) -> Program:
        if not shared:
            return runtime.quantize(fused, recipe, self._calibration)
        return quantize(
            fused, recipe, self._calibration, store=self._store, progress=self.progress.count
        )

    def lower(self, job: Job, program: Program, folder: Path) -> Lowered:
        """Writes the job's file into ``folder``."""
        runtime, backend = self._runtime(job.runtime), job.variant.backend
        with sdk_log(self.log):
            if job.more:
                return lower_bundle(runtime, program, backend, job.resolutions, folder)
            return runtime.lower(program, backend=backend, resolution=job.resolution, folder=folder)

    def _runtime(self, key: str) -> Runtime:
        if key not in self._runtimes:
            with self.progress.step(f"Load {key}", counts=False), sdk_log(self.log):
                self._runtimes[key] = load_runtime(key)
        return self._runtimes[key]
