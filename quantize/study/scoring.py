"""Scores of a program on captures: against the float network, and against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import torch
from torch import Tensor, nn

from dfnet.capture import Capture, Split, Target
from dfnet.captureset import CaptureSet, require_split
from dfnet.errors import CaptureError
from dfnet.metrics import Picture, psnr_db
from dfnet.tensors import feed_tensors

IDENTICAL_DB = 150.0
"""PSNR of equal pictures, and the most that is told of nearly equal ones: float32 rounding."""


def require_study_captures(captures: CaptureSet) -> CaptureSet:
    """Returns ``captures`` when decisions may be taken on them.

    Raises:
        CaptureError: another split than validation.
    """
    if captures.split is Split.HELD_OUT:
        raise CaptureError(
            f"Capture set {captures.root}: got the split {captures.split}, needed "
            f"{Split.VALIDATION}, because what is studied on held-out captures is no longer "
            "held out. Give validation captures."
        )
    return require_split(captures, Split.VALIDATION)


@dataclass(frozen=True)
class Sample:
    """One capture asked for one target whose true rendering is known."""

    inputs: tuple[Tensor, ...]
    reference: Picture
    """What the float network makes of it."""
    truth: Picture

    @cached_property
    def float_db(self) -> float:
        return _finite(psnr_db(self.truth, self.reference))


@dataclass(frozen=True)
class Score:
    """dB per sample: PSNR against the float network, and what is lost to it against the truth."""

    psnr_db: tuple[float, ...]
    drop_db: tuple[float, ...]

    @property
    def mean_drop_db(self) -> float:
        return fmean(self.drop_db)

    @property
    def worst_drop_db(self) -> float:
        return max(self.drop_db)

    @property
    def noise(self) -> float:
        """Mean squared difference from the float network."""
        return fmean(10 ** (-decibels / 10) for decibels in self.psnr_db)

    def to_json(self) -> dict[str, float]:
        """The figures over all samples."""
        return {
            "psnr_db": fmean(self.psnr_db),
            "worst_psnr_db": min(self.psnr_db),
            "drop_db": self.mean_drop_db,
            "worst_drop_db": self.worst_drop_db,
            "noise": self.noise,
        }


def take_samples(network: nn.Module, captures: CaptureSet) -> tuple[Sample, ...]:
    """Every capture with every target that has a truth; ``network`` is the float reference.

    Raises:
        CaptureError: no target has a truth, or a capture cannot be read.
    """
    samples = tuple(
        _sample(network, capture, target, target.truth)
        for capture in captures
        for target in capture.targets
        if target.truth is not None
    )
    if not samples:
        raise CaptureError(
            f"Capture set {captures.root}: got no target with a true rendering, needed at least "
            "one to score against. Add truths to the capture set."
        )
    return samples


def score(module: nn.Module, samples: Sequence[Sample]) -> Score:
    """Runs ``module`` on every sample and compares.

    Raises:
        MetricError: an output is of another shape, or not finite.
    """
    psnrs, drops = [], []
    for sample in samples:
        output = _run(module, sample.inputs)
        psnrs.append(_finite(psnr_db(sample.reference, output)))
        drops.append(sample.float_db - _finite(psnr_db(sample.truth, output)))
    return Score(tuple(psnrs), tuple(drops))


def _sample(network: nn.Module, capture: Capture, target: Target, truth: Picture) -> Sample:
    inputs = feed_tensors(capture.feed(target))
    return Sample(inputs, _run(network, inputs), truth)


def _run(module: nn.Module, inputs: tuple[Tensor, ...]) -> Picture:
    with torch.no_grad():
        output: Picture = module(*inputs).numpy()
    return output


def _finite(decibels: float) -> float:
    return min(decibels, IDENTICAL_DB)
