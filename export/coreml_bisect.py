"""python -m export.coreml_bisect: which operation of a Core ML package loses the decibels.

The reference is the fused torch network the package came from, or another package. Both run on
this machine, so it works anywhere; the package runs in the reference evaluator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfnet.console import (
    EXIT_MISSED_BAR,
    EXIT_OK,
    Progress,
    debug_option,
    results_console,
    run_command,
)

if TYPE_CHECKING:
    from rich.table import Table

    from dfnet.signature import Feed
    from export.mil.bisect import Bisection, Execution

_PATH = click.Path(path_type=Path)


@click.command("export.coreml_bisect")
@click.argument("package", type=_PATH)
@click.option("--reference", type=_PATH, help="Compare with this package, not with the network.")
@click.option("--checkpoint", type=_PATH, help="The network. Default: the reference checkpoint.")
@click.option("--factory", help="package.module:function, for a network of your own.")
@click.option("--weights", type=_PATH, help="Weights (.safetensors) for --factory.")
@click.option(
    "--captures",
    type=_PATH,
    default=Path("data/captures/validation"),
    show_default=True,
    help="A capture set; its first capture is the input, repeated to fill the frame.",
)
@click.option("--bar", default=40.0, show_default=True, help="Signal-to-noise ratio in dB.")
@click.option("--all", "show_all", is_flag=True, help="List every operation, not the lossy ones.")
@debug_option
def main(package: Path, bar: float, show_all: bool, **options: Any) -> int:
    """Name the first operation of PACKAGE whose signal-to-noise ratio falls below the bar.

    PACKAGE is a model.mlpackage folder. Exits 1 when there is such an operation.
    """
    from export.sdk_log import temporary_sdk_log

    with (
        Progress() as progress,
        progress.step("Compare every operation", counts=False),
        temporary_sdk_log(),
    ):
        bisection = _bisect(package, bar, **options)
    console = results_console()
    console.print(_table(bisection, show_all=show_all))
    first = bisection.first
    if first is None:
        console.print(f"All {len(bisection.matches)} operations clear {bar:g} dB.", markup=False)
        return EXIT_OK
    console.print(
        f"First below {bar:g} dB: {first.operation} {first.name} ({first.snr_db:.1f} dB)",
        markup=False,
    )
    return EXIT_MISSED_BAR


def _bisect(
    package: Path,
    bar: float,
    *,
    reference: Path | None,
    checkpoint: Path | None,
    factory: str | None,
    weights: Path | None,
    captures: Path,
) -> Bisection:
    from dfnet.captureset import open_captures
    from dfnet.network import NetworkChoice
    from export.mil.bisect import bisect

    capture = next(iter(open_captures(captures).take(1)))
    candidate, feed = _open(package, lambda: capture.feed(capture.targets[0]))
    if reference is not None:
        compared, _ = _open(reference, lambda: feed)
    else:
        compared = _graph(NetworkChoice(checkpoint, factory, weights), feed)
    return bisect(compared, candidate, bar_db=bar)


def _open(package: Path, feed: Callable[[], Feed]) -> tuple[Execution, Feed]:
    """A package on a feed that is repeated and cropped to its own frame."""
    from export.mil import Evaluator, Package
    from export.mil.bisect import PackageExecution

    opened = Package(package)
    shapes = {n: t.shape for n, t in opened.function().inputs.items()}
    inputs = {name: _fill(array, shapes.get(name)) for name, array in feed().items()}
    return PackageExecution(Evaluator(opened), inputs), inputs


def _fill(array: Any, shape: tuple[int | None, ...] | None) -> Any:
    import numpy as np

    if shape is None or None in shape or len(shape) != array.ndim:
        return array
    times = [math.ceil((want or 1) / have) for want, have in zip(shape, array.shape, strict=True)]
    return np.tile(array, times)[tuple(slice(0, want) for want in shape)]


def _graph(choice: Any, feed: Feed) -> Execution:
    import torch

    from dfnet.tensors import feed_tensors
    from export.mil.bisect import GraphExecution
    from quantize.fuse import fuse

    tensors = feed_tensors(feed)
    fused = fuse(choice.load().network, [feed])
    exported = torch.export.export(fused, tensors).run_decompositions({})
    return GraphExecution(exported, tensors)


def _table(bisection: Bisection, *, show_all: bool) -> Table:
    from rich.table import Table

    table = Table(title="Signal-to-noise ratio of each operation's result")
    for heading in ("operation", "result", "SNR dB", "held times"):
        table.add_column(heading, justify="left" if heading in ("operation", "result") else "right")
    shown = bisection.matches if show_all else _lossy(bisection)
    for match in shown:
        gain = "" if match.gain == 1 else f"{match.gain:.3g}"
        table.add_row(match.operation, match.name, f"{match.snr_db:.1f}", gain)
    return table


def _lossy(bisection: Bisection) -> list[Any]:
    """The ten results with the lowest ratio, in program order."""
    worst = sorted(bisection.matches, key=lambda m: m.snr_db)[:10]
    return [match for match in bisection.matches if match in worst]


if __name__ == "__main__":
    run_command(main)
