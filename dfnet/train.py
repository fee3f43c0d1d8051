"""Trains the reference checkpoint on rendered scenes: ``python -m dfnet.train`` (make train)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from dfnet.capture import Split
from dfnet.captureset import CaptureSet, open_captures, require_split
from dfnet.checkpoint import load_factory, save_checkpoint, save_weights
from dfnet.console import debug_option, progress_console, results_console, run_command
from dfnet.model import DFNet, DFNetConfig
from dfnet.shipped import CAPTURES, TEXTURES, VALIDATION_PHOTOGRAPHS
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


@click.command(
    "dfnet.train",
    help="Train DFNet on rendered scenes and keep the best weights by validation.\n\n"
    "Example: python -m dfnet.train --output runs/mine.safetensors",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("artifacts/training/dfnet.safetensors"),
    show_default=True,
)
@click.option("--width", type=int, default=16, show_default=True, help="Channels at half size.")
@click.option(
    "--batch-norm/--no-batch-norm",
    default=True,
    show_default=True,
    help="BatchNorm after convolutions; without it features grow loud, which int8 pays for.",
)
@click.option("--factory", help="Train your own network: package.module:function.")
@click.option("--steps", type=int, help=f"Training steps.  [default: {Schedule().steps}]")
@click.option("--smoke", is_flag=True, help="Only 20 tiny steps.")
@click.option(
    "--captures",
    type=click.Path(path_type=Path),
    default=CAPTURES / Split.VALIDATION,
    show_default=True,
    help="Validation captures.",
)
@debug_option
def main(
    output: Path,
    width: int,
    batch_norm: bool,
    factory: str | None,
    steps: int | None,
    smoke: bool,
    captures: Path,
) -> None:
    """Trains, then writes the checkpoint and its learning curve."""
    schedule = SMOKE if smoke else Schedule()
    if steps is not None:
        schedule = replace(schedule, steps=steps)
    validation = require_split(open_captures(captures), Split.VALIDATION)
    torch.manual_seed(schedule.seed)
    if factory is not None:
        own = run(load_factory(factory, None).network, schedule, validation, loss_of=output_loss)
        save_weights(own.network, output)
        report(own, schedule, output)
        return
    network = DFNet(DFNetConfig(width=width, batch_norm=batch_norm))
    trained = run(network, schedule, validation, loss_of=refocus_loss)
    save_checkpoint(trained.network, output, training=provenance(trained, schedule, validation))
    report(trained, schedule, output)


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


if __name__ == "__main__":
    run_command(main)
