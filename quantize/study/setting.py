"""What a study works on: the fused network, its calibration, and samples to score on."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from dfnet.capture import Split
from dfnet.captureset import CaptureSet, open_captures, require_disjoint, require_split
from dfnet.console import Progress
from dfnet.errors import UnsupportedError
from dfnet.network import NetworkChoice
from quantize.captures import require_calibration_captures
from quantize.fuse import fuse
from quantize.ptq import StaticProgram, quantize
from quantize.recipe import Recipe
from quantize.store import PROGRAMS
from quantize.study.scoring import Sample, Score, require_study_captures, score, take_samples

SCHEMA = 1
"""Of the files that studies write, and of how their figures are measured."""

DEFAULT_STORE = Path("artifacts") / PROGRAMS

_PROOF_CAPTURES = 2


@dataclass(frozen=True)
class Options:
    """What every study is given; see ``python -m quantize --help``."""

    checkpoint: Path | None
    factory: str | None
    weights: Path | None
    calibration: Path
    captures: Path
    captures_count: int | None
    output: Path
    store: Path | None
    as_json: bool


class Setting:
    """The network and captures of one study. Networks run only when something is measured.

    Raises:
        DFNetError: the network or captures cannot be used, or the captures are not validation
            captures, or share something with the calibration captures.
    """

    def __init__(self, options: Options, progress: Progress) -> None:
        self.options = options
        self.progress = progress
        scoring = require_study_captures(open_captures(options.captures))
        count = options.captures_count
        self.captures = scoring if count is None else scoring.take(count)
        self.calibration = require_split(open_captures(options.calibration), Split.CALIBRATION)
        require_calibration_captures(self.calibration)
        require_disjoint(self.calibration, scoring)
        self._choice = NetworkChoice(options.checkpoint, options.factory, options.weights).load()

    @cached_property
    def network(self) -> nn.Module:
        """The float network with its blocks folded: what everything is compared with."""
        captures = map(self.calibration.load, self.calibration.ids[:_PROOF_CAPTURES])
        feeds = [capture.feed(target) for capture in captures for target in capture.targets]
        with self._step("Fuse the network"):
            return fuse(self._choice.network, feeds)

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The captures to decide on, run through the float network."""
        return self.sample(self.captures)

    def sample(self, captures: CaptureSet) -> tuple[Sample, ...]:
        with self._step(f"Run the float network on {captures.root}"):
            return take_samples(self.network, captures)

    def program(
        self, recipe: Recipe, calibration: CaptureSet | None = None, *, called: str | None = None
    ) -> StaticProgram:
        """The program of ``recipe``, from the store if it was made before.

        Raises:
            UnsupportedError: the recipe has no int8 activations; see also ``quantize``.
            CalibrationError: see ``quantize``.
        """
        network = self.network
        with self._step(f"Quantize: {called or recipe.name}"):
            program = quantize(
                network,
                recipe,
                calibration or self.calibration,
                store=self.options.store or DEFAULT_STORE,
                progress=self.progress.count,
            )
        if not isinstance(program, StaticProgram):
            raise UnsupportedError(
                f"Recipe {recipe.name}: got float activations, needed int8 ones to study. Choose "
                "int8 or int8-full."
            )
        return program

    def score(
        self,
        program: StaticProgram,
        samples: tuple[Sample, ...] | None = None,
        *,
        called: str | None = None,
    ) -> Score:
        """How ``program`` does on ``samples``, those to decide on unless others are given."""
        chosen = self.samples if samples is None else samples
        with self._step(f"Score: {called or program.recipe.name}"):
            return score(program.module(), chosen)

    @contextmanager
    def _step(self, text: str) -> Iterator[None]:
        with self.progress.step(text, counts=False), warnings.catch_warnings():
            # torch warns about itself when a graph is copied.
            warnings.simplefilter("ignore", FutureWarning)
            yield

    def identity(self, **more: Any) -> dict[str, Any]:
        """What decides the figures of a study: what is common to all, and ``more``."""
        return {
            "schema": SCHEMA,
            "checkpoint_sha256": self._choice.sha256,
            "calibration_sha256": self.calibration.sha256,
            "captures_sha256": self.captures.sha256,
            **more,
        }


def hash_of(identity: dict[str, Any]) -> str:
    """Hex sha256 of a study's identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
