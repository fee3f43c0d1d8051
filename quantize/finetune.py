"""Quantization-aware fine-tuning: the last resort where corrected rounding is not enough.

Weights leave their two nearest codes and move freely, rounded on the way forward and not on the way
back (the straight-through estimator; Jacob et al., "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference", CVPR 2018). The teacher is the float network and
the data are the calibration captures, so nothing but the user's checkpoint is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from quantize.learning import Lesson, Progress, Relaxation, Schedule, learn
from quantize.observers import SYMMETRIC, WeightQuantizer

MOST_CPU_SECONDS = 25 * 60.0
"""Learning stops after this, whatever the number of steps."""
_RATE = 1e-2
"""In codes per step, at most about that."""


def finetune(
    prepared: GraphModule,
    lessons: Sequence[Lesson],
    steps: int,
    *,
    progress: Progress | None = None,
) -> None:
    """Learns the weights of a calibrated graph, in place; see ``quantize.learning``.

    Raises:
        CalibrationError: there are no lessons, or the error stops being finite.
    """
    schedule = Schedule(steps, weight_rate=_RATE, cpu_seconds=MOST_CPU_SECONDS)
    learn(prepared, lessons, FreeWeight, schedule, progress=progress)


class FreeWeight(Relaxation):
    """A weight in units of its codes, free to move."""

    def __init__(self, quantizer: WeightQuantizer, weight: Tensor) -> None:
        nn.Module.__init__(self)
        self.scale = quantizer.broadcast(quantizer.scale, weight)
        self.codes = nn.Parameter(weight / self.scale)

    @property
    def learned(self) -> nn.Parameter:
        return self.codes

    def forward(self, weight: Tensor) -> Tensor:
        rounded = self.codes + (self.codes.round() - self.codes).detach()
        return torch.clamp(rounded, -SYMMETRIC, SYMMETRIC) * self.scale
