"""Learning on calibration captures: the int8 graph is pulled towards its float self.

No truths are needed. What is learned is a relaxation of every weight, all convolutions' biases, and
the widths of the activation ranges. The loss is the output's squared error: its logarithm would
make the average picture better still, but narrows ranges until rare pictures are clipped.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from dfnet.errors import CalibrationError
from quantize.crops import Crop
from quantize.dataflow import held_biases, held_tensor
from quantize.observers import Mode, WeightQuantizer, activations, modes, weights

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

CHECK_EVERY = 20
"""Steps between two calls of ``after_steps``; it is called once more when learning ends."""
_LOSS_SCALE = 1e5
"""Lifts squared errors of int8 pictures, about 1e-5, well above Adam's epsilon."""
_LAST_RATE = 0.02
"""Learning rates fall to this share of their peak along a cosine."""


@dataclass(frozen=True)
class Lesson:
    """A crop and what the float network makes of it, (1, 3, H, W)."""

    crop: Crop
    reference: Tensor


def take_lessons(prepared: GraphModule, crops: Sequence[Crop]) -> tuple[Lesson, ...]:
    """The crops with the outputs of ``prepared`` in float; take them before weights change."""
    with torch.no_grad(), modes(prepared, Mode.FLOAT):
        return tuple(Lesson(crop, prepared(*crop)) for crop in crops)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn; rates are Adam's. ``cpu_seconds`` ends it early."""

    steps: int
    weight_rate: float
    stretch_rate: float = 5e-4
    bias_rate: float = 2e-5
    seed: int = 0
    cpu_seconds: float = math.inf


class Relaxation(nn.Module, ABC):
    """Stands for one quantized weight while it is being learned."""

    @abstractmethod
    def __init__(self, quantizer: WeightQuantizer, weight: Tensor) -> None: ...

    @property
    @abstractmethod
    def learned(self) -> nn.Parameter:
        """What the optimizer changes."""

    @abstractmethod
    def forward(self, weight: Tensor) -> Tensor:
        """The weight as the int8 graph uses it now."""


_Kind = TypeVar("_Kind", bound=Relaxation)


def learn(
    prepared: GraphModule,
    lessons: Sequence[Lesson],
    kind: type[_Kind],
    schedule: Schedule,
    *,
    after_steps: Callable[[Mapping[WeightQuantizer, _Kind], float], None] | None = None,
    progress: Progress | None = None,
) -> None:
    """Learns on a calibrated graph, in place; afterwards every weight lies on its grid.

    One crop a step, at random. ``after_steps`` is given the relaxations and the share of the
    steps that are done.

    Raises:
        CalibrationError: there are no crops, or the error stops being finite.
    """
    if not lessons:
        raise CalibrationError("Learning: got no crops, needed at least one. Add captures.")
    relaxed = _attach(prepared, kind)
    optimizer = torch.optim.Adam(_groups(prepared, relaxed, schedule))
    order = torch.Generator().manual_seed(schedule.seed)
    end = time.process_time() + schedule.cpu_seconds
    with modes(prepared, Mode.INT8):
        for step in range(schedule.steps):
            lesson = lessons[int(torch.randint(len(lessons), (1,), generator=order))]
            _step(prepared, lesson, optimizer, step / schedule.steps)
            done = step + 1
            if after_steps is not None and done % CHECK_EVERY == 0:
                after_steps(relaxed, done / schedule.steps)
            if progress is not None:
                progress(done, schedule.steps)
            if time.process_time() > end:
                break
    if after_steps is not None:
        after_steps(relaxed, 1.0)
    _bake(prepared, relaxed)


def _attach(prepared: GraphModule, kind: type[_Kind]) -> dict[WeightQuantizer, _Kind]:
    relaxed = {}
    for quantizer, node in weights(prepared).items():
        relaxed[quantizer] = kind(quantizer, held_tensor(prepared, node).detach())
        quantizer.relaxation = relaxed[quantizer]
    return relaxed


def _groups(
    prepared: GraphModule, relaxed: Mapping[WeightQuantizer, Relaxation], schedule: Schedule
) -> list[dict[str, object]]:
    """Adam's parameter groups; everything else stays as it is."""
    stretches = [q.stretch for q in activations(prepared) if q.fixed is None]
    rates: list[tuple[list[Tensor], float]] = [
        ([r.learned for r in relaxed.values()], schedule.weight_rate),
        ([*stretches], schedule.stretch_rate),
        (held_biases(prepared), schedule.bias_rate),
    ]
    prepared.requires_grad_(False)
    for tensors, _ in rates:
        for tensor in tensors:
            tensor.requires_grad_(True)
    return [{"params": tensors, "lr": rate, "peak": rate} for tensors, rate in rates if tensors]


def _step(
    prepared: GraphModule,
    lesson: Lesson,
    optimizer: torch.optim.Optimizer,
    done: float,
) -> None:
    for group in optimizer.param_groups:
        fall = 0.5 * (1 + math.cos(math.pi * done))
        group["lr"] = group["peak"] * (_LAST_RATE + (1 - _LAST_RATE) * fall)
    error = (prepared(*lesson.crop) - lesson.reference).square().mean()
    if not torch.isfinite(error):
        raise CalibrationError(
            "Learning: got an error that is not finite, needed finite ones. Check the network's "
            "weights."
        )
    optimizer.zero_grad()
    (error * _LOSS_SCALE).backward()
    optimizer.step()


def _bake(prepared: GraphModule, relaxed: Mapping[WeightQuantizer, Relaxation]) -> None:
    """Writes what was learned into weights and scales: rounding to nearest finds it again."""
    holders = weights(prepared)
    prepared.requires_grad_(False)
    with torch.no_grad():
        for quantizer, relaxation in relaxed.items():
            weight = held_tensor(prepared, holders[quantizer])
            weight.copy_(relaxation(weight))
            quantizer.relaxation = None
        for activation in activations(prepared):
            activation.fold_stretch()
