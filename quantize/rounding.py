"""Adaptive rounding, for the whole network at once and without truths.

Every weight may take either of its two nearest codes, and which one is learned. The relaxation is
AdaRound's (Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020,
equation 23). Unlike AdaRound, layers are not treated one by one, and weights are settled step by
step, the surest first, instead of by a penalty: what is still soft makes up for what became hard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from quantize.learning import Lesson, Progress, Relaxation, Schedule, learn
from quantize.observers import SYMMETRIC, WeightQuantizer

SETTLING = (0.3, 0.75)
"""Share of the steps before the first weight settles, and when the last one has."""
_RATE = 2e-2
_LOW, _HIGH = -0.1, 1.1
"""AdaRound's stretched sigmoid reaches 0 and 1 for finite numbers."""
_SURE = 20.0


def learn_rounding(
    prepared: GraphModule,
    lessons: Sequence[Lesson],
    steps: int,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Learns how to round the weights of a calibrated graph, in place; see ``quantize.learning``.

    Raises:
        CalibrationError: there are no lessons, or the error stops being finite.
    """
    schedule = Schedule(steps, weight_rate=_RATE, seed=seed)
    learn(prepared, lessons, Rounding, schedule, after_steps=_settle, progress=progress)


class Rounding(Relaxation):
    """A weight between its two nearest codes, as ``choice`` says."""

    def __init__(self, quantizer: WeightQuantizer, weight: Tensor) -> None:
        nn.Module.__init__(self)
        self.scale = quantizer.broadcast(quantizer.scale, weight)
        exact = weight / self.scale
        self.below = exact.floor()
        share = (exact - self.below).clamp(0.01, 0.99)
        self.choice = nn.Parameter(torch.logit((share - _LOW) / (_HIGH - _LOW)))

    @property
    def learned(self) -> nn.Parameter:
        return self.choice

    def up(self) -> Tensor:
        """How much of the upper code each weight takes, 0 to 1."""
        return (torch.sigmoid(self.choice) * (_HIGH - _LOW) + _LOW).clamp(0, 1)

    def forward(self, weight: Tensor) -> Tensor:
        return (self.below + self.up()).clamp(-SYMMETRIC, SYMMETRIC) * self.scale

    def sureness(self) -> Tensor:
        """Distance of every choice from the middle, 0 to 0.5, flat."""
        return (self.up() - 0.5).abs().flatten()

    def settle(self, least: float) -> None:
        """Hardens every choice at least as sure as ``least``."""
        up = self.up()
        sure = (up - 0.5).abs() >= least
        self.choice[sure] = torch.where(up[sure] >= 0.5, _SURE, -_SURE)


def _settle(relaxed: Mapping[WeightQuantizer, Rounding], done: float) -> None:
    """Hardens as many of the surest choices as are due."""
    first, last = SETTLING
    due = 1.0 if done >= 1 else (done - first) / (last - first)
    if due <= 0:
        return
    with torch.no_grad():
        sureness = torch.cat([rounding.sureness() for rounding in relaxed.values()])
        rank = int(min(due, 1.0) * (len(sureness) - 1))
        least = float(sureness.sort(descending=True).values[rank]) if due < 1 else 0.0
        for rounding in relaxed.values():
            rounding.settle(least)
