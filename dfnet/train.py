"""python -m dfnet.train (make train) trains the reference checkpoint on rendered scenes.

Only options live here, so that --help answers at once; ``dfnet.train_command`` does the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dfnet.console import debug_option, run_command

STEPS = 28000
"""Default of ``training.Schedule``, repeated so that --help need not load torch."""


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
@click.option("--steps", type=int, help=f"Training steps.  [default: {STEPS}]")
@click.option("--smoke", is_flag=True, help="Only 20 tiny steps.")
@click.option(
    "--captures",
    type=click.Path(path_type=Path),
    default=Path("data/captures/validation"),
    show_default=True,
    help="Validation captures.",
)
@debug_option
def main(**options: Any) -> int:
    """Trains, then writes the checkpoint and its learning curve."""
    from dfnet.train_command import Options, work

    return work(Options(**options))


if __name__ == "__main__":
    run_command(main)
