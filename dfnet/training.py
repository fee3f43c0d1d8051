"""The training loop: schedule, loss, weight averaging, validation.

One process trains, a second renders. Step i may only draw from the scenes whose turn has come by
then, so that a run does not depend on the two processes' speeds.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dfnet.capture import Capture, TargetKind
from dfnet.metrics import psnr_db
from dfnet.model import DFNet
from dfnet.signature import OUTPUT
from dfnet.torch_runner import TorchRunner
from dfnet.training_data import Batch, SceneFeeder, draw_batch


@dataclass(frozen=True)
class Schedule:
    """How to train. Crops are ``crop_px`` square; one validation every ``validate_every`` steps.

    From the share ``norms_fixed_from`` of the steps on, BatchNorm normalizes by its running
    statistics, as it will when the network is used. Weights that are averaged against statistics
    that still move can blow features up a hundredfold on rare pictures, which ruins int8 ranges.
    """

    steps: int = 28_000
    batch: int = 4
    crop_px: int = 128
    scenes: int = 2_400
    first_scenes: int = 120
    steps_per_scene: int = 8
    learning_rate: float = 1.5e-3
    warm_up: int = 40
    ema_decay: float = 0.998
    clip_norm: float = 0.5
    validate_every: int = 1_000
    norms_fixed_from: float = 0.5
    seed: int = 1

    def scenes_at(self, step: int) -> int:
        """How many scenes step ``step`` may draw from."""
        return min(self.scenes, self.first_scenes + step // self.steps_per_scene)

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then one cosine down to 2 % of the peak."""
        ramp = min(1.0, (step + 1) / self.warm_up)
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * ramp * (0.98 * cosine + 0.02)


@dataclass(frozen=True)
class Validation:
    """Mean PSNR in dB over the validation captures after ``step`` steps, by target kind."""

    step: int
    cpu_seconds: float
    loss: float
    all_in_focus_db: float
    refocus_db: float

    @property
    def score_db(self) -> float:
        """What decides which weights ship: both tasks weigh the same."""
        return (self.all_in_focus_db + self.refocus_db) / 2


Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Trained(Generic[Network]):
    """The best weights by validation, and the learning curve."""

    network: Network
    best: Validation
    curve: tuple[Validation, ...]


def train(
    network: Network,
    feeder: SceneFeeder,
    validation: Iterable[Capture],
    schedule: Schedule,
    *,
    loss_of: Callable[[Network, Batch], Tensor],
    on_validation: Callable[[Validation, Network], None],
) -> Trained[Network]:
    """Trains ``network`` in place and returns a copy with the best averaged weights.

    ``on_validation`` gets each validation result and the averaged weights it scores.
    """
    torch.manual_seed(schedule.seed)
    rng = np.random.default_rng(schedule.seed)
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(
        network.parameters(), betas=(0.9, 0.99), weight_decay=1e-4, lr=schedule.learning_rate
    )
    curve: list[Validation] = []
    best = copy.deepcopy(average)
    recent: list[float] = []
    started = time.process_time()
    for step, batch in enumerate(_batches(feeder, schedule, rng)):
        if step == int(schedule.norms_fixed_from * schedule.steps):
            _fix_norms(network)
        recent.append(_train_step(optimizer, loss_of(network, batch), schedule, step))
        _update_average(average, network, min(schedule.ema_decay, (step + 1) / (step + 10)))
        if (step + 1) % schedule.validate_every and step + 1 < schedule.steps:
            continue
        spent = time.process_time() - started
        result = validate(average, validation, step + 1, spent, float(np.mean(recent)))
        recent.clear()
        if not curve or result.score_db > max(v.score_db for v in curve):
            best = copy.deepcopy(average)
        curve.append(result)
        on_validation(result, average)
    winner = max(curve, key=lambda v: v.score_db)
    return Trained(best.eval().to(memory_format=torch.contiguous_format), winner, tuple(curve))  # type: ignore[call-overload]


def _batches(feeder: SceneFeeder, schedule: Schedule, rng: np.random.Generator) -> Iterator[Batch]:
    for step in range(schedule.steps):
        scenes = feeder.wait_for(schedule.scenes_at(step))
        yield draw_batch(scenes, rng, size=schedule.batch, crop_px=schedule.crop_px)


def _fix_norms(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _train_step(
    optimizer: torch.optim.Optimizer, loss: Tensor, schedule: Schedule, step: int
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = schedule.learning_rate_at(step)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(parameters, schedule.clip_norm)
    optimizer.step()
    return loss.item()


def refocus_loss(network: DFNet, batch: Batch) -> Tensor:
    """Charbonnier and gradient loss on the output, and a light Charbonnier on each branch's image.

    The ultra-wide branch counts only where the ultra-wide camera sees the scene.
    """
    refocused, wide, ultrawide = network.refine(*batch.inputs)
    visible = 1 - batch.inputs[5]
    return (
        _picture_loss(refocused, batch)
        + 0.15 * _charbonnier(wide - batch.truth).mean()
        + 0.15 * (_charbonnier(ultrawide - batch.truth) * visible).mean()
    )


def output_loss(network: nn.Module, batch: Batch) -> Tensor:
    """Charbonnier and gradient loss on the output alone: for a network without branches."""
    return _picture_loss(network(*batch.inputs), batch)


def _picture_loss(output: Tensor, batch: Batch) -> Tensor:
    error = output - batch.truth
    return _charbonnier(error).mean() + 0.4 * _gradient_difference(error)


def _charbonnier(error: Tensor) -> Tensor:
    return torch.sqrt(error**2 + 1e-6)


def _gradient_difference(error: Tensor) -> Tensor:
    vertical = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    horizontal = (error[..., :, 1:] - error[..., :, :-1]).abs().mean()
    return vertical + horizontal


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)
    for statistic, value in zip(average.buffers(), network.buffers(), strict=True):
        statistic.copy_(value)


def validate(
    network: nn.Module, captures: Iterable[Capture], step: int, cpu_seconds: float, loss: float
) -> Validation:
    """Scores ``network`` on every target with a truth."""
    scores: dict[bool, list[float]] = {True: [], False: []}
    runner = TorchRunner(copy.deepcopy(network).eval())
    for capture in captures:
        for target in capture.targets:
            if target.truth is not None:
                output = runner.infer(capture.feed(target))[OUTPUT]
                scores[target.kind is TargetKind.ALL_IN_FOCUS].append(psnr_db(target.truth, output))
    return Validation(
        step, cpu_seconds, loss, float(np.mean(scores[True])), float(np.mean(scores[False]))
    )
