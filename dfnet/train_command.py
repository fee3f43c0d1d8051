"""What ``python -m dfnet.train`` does: trains a checkpoint on rendered scenes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfnet.capture import Split
from dfnet.captureset import CaptureSet, open_captures, require_split
from dfnet.checkpoint import load_factory, save_checkpoint, save_weights
from dfnet.console import EXIT_OK, progress_console, results_console
from dfnet.model import DFNet, DFNetConfig
from dfnet.shipped import TEXTURES, VALIDATION_PHOTOGRAPHS
from dfnet.training import (
    Network,
    Schedule,
    Trained,
    Validation,
    output_loss,
    refocus_loss,
    train,
)
from dfnet.training_data import Batch, SceneFeeder

SMOKE = Schedule(
    steps=20, batch=2, crop_px=64, scenes=4, first_scenes=2, warm_up=4, validate_every=10
)
"""Twenty steps: proves that training runs, not that it learns much."""


@dataclass(frozen=True)
class Options:
    """The command line as given; see ``python -m dfnet.train --help``."""

    output: Path
    width: int
    batch_norm: bool
    factory: str | None
    steps: int | None
    smoke: bool
    captures: Path


def work(options: Options) -> int:
    """Trains, then writes the checkpoint and its learning curve.

    Raises:
        DFNetError: the captures or the factory cannot be used, or the output cannot be written.
    """
    schedule = SMOKE if options.smoke else Schedule()
    if options.steps is not None:
        schedule = replace(schedule, steps=options.steps)
    validation = require_split(open_captures(options.captures), Split.VALIDATION)
    torch.manual_seed(schedule.seed)
    if options.factory is not None:
        network = load_factory(options.factory, None).network
        own = run(network, schedule, validation, loss_of=output_loss)
        save_weights(own.network, options.output)
        report(own, schedule, options.output)
        return EXIT_OK
    dfnet = DFNet(DFNetConfig(width=options.width, batch_norm=options.batch_norm))
    trained = run(dfnet, schedule, validation, loss_of=refocus_loss)
    told = provenance(trained, schedule, validation)
    save_checkpoint(trained.network, options.output, training=told)
    report(trained, schedule, options.output)
    return EXIT_OK


def report(trained: Trained[Network], schedule: Schedule, output: Path) -> None:
    """Writes the learning curve beside ``output`` and prints what was reached."""
    write_curve(trained, schedule, output.with_name(f"{output.stem}-curve"))
    results_console().print(
        f"{output}: step {trained.best.step}, validation {trained.best.all_in_focus_db:.2f} dB "
        f"all-in-focus, {trained.best.refocus_db:.2f} dB refocus"
    )


def run(
    network: Network,
    schedule: Schedule,
    validation: CaptureSet,
    *,
    loss_of: Callable[[Network, Batch], Tensor],
) -> Trained[Network]:
    """Trains ``network``; prints one line per validation to standard error."""
    # A second thread is slower than one at this size, and the renderer needs the other core.
    torch.set_num_threads(1)
    console = progress_console()

    def show(result: Validation, _: nn.Module) -> None:
        console.print(
            f"step {result.step}/{schedule.steps}: loss {result.loss:.4f}, validation "
            f"{result.all_in_focus_db:.2f} dB all-in-focus, {result.refocus_db:.2f} dB refocus, "
            f"{result.cpu_seconds / 60:.1f} CPU-min"
        )

    with SceneFeeder(
        TEXTURES / "train", scenes=schedule.scenes, exclude=VALIDATION_PHOTOGRAPHS
    ) as feeder:
        return train(
            network, feeder, tuple(validation), schedule, loss_of=loss_of, on_validation=show
        )


def provenance(
    trained: Trained[DFNet], schedule: Schedule, validation: CaptureSet
) -> dict[str, Any]:
    """What a checkpoint's JSON says of its training."""
    return {
        "data": "scenes rendered by dfnet.scenes from data/textures/train",
        "excluded_photographs": list(VALIDATION_PHOTOGRAPHS),
        "schedule": asdict(schedule),
        "chosen_by": "mean of all-in-focus and refocus PSNR on the validation captures",
        "validation_captures_sha256": validation.sha256,
        "best": asdict(trained.best),
    }


def write_curve(trained: Trained[Network], schedule: Schedule, path: Path) -> None:
    """Writes the learning curve as ``path``.json and ``path``.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    data = {"schedule": asdict(schedule), "validation": [asdict(v) for v in trained.curve]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(data, indent=2) + "\n")
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    steps = [v.step for v in trained.curve]
    axes.plot(steps, [v.all_in_focus_db for v in trained.curve], label="all in focus")
    axes.plot(steps, [v.refocus_db for v in trained.curve], label="refocus")
    axes.set(xlabel="training step", ylabel="validation PSNR (dB)", title="Learning curve")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path.with_suffix(".png"), dpi=110, metadata={"Software": None})
    plt.close(figure)
