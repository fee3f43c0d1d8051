"""python -m benchmarks.evaluator_speed: the Core ML evaluator's time over torch's, interleaved.

Says whether checks stay affordable; an evaluator's time is no latency.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfnet.console import debug_option, run_command

if TYPE_CHECKING:
    from dfnet.capture import Capture
    from export.mil import Package

_PATH = click.Path(path_type=Path)
_ROUNDS = 7


@click.command("evaluator_speed")
@click.argument("packages", nargs=-1, required=True, type=_PATH)
@click.option("--captures", type=_PATH, default=Path("data/captures/validation"), show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--output", type=_PATH, default=Path("docs/coreml-speed.json"), show_default=True)
@debug_option
def main(packages: tuple[Path, ...], captures: Path, threads: int, output: Path) -> None:
    """Time PACKAGES, exported from the reference checkpoint, in every arithmetic."""
    import torch

    from dfnet.captureset import open_captures
    from export.mil import Package

    torch.set_num_threads(threads)
    held = tuple(open_captures(captures))
    rows = [row for path in packages for row in _ratios(Package(path), held)]
    output.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        click.echo(json.dumps(row))


def _ratios(package: Package, captures: tuple[Capture, ...]) -> list[dict[str, object]]:
    import torch

    from benchmarks.mosaic import fill_frame
    from dfnet.network import NetworkChoice
    from dfnet.profiles import Resolution
    from dfnet.tensors import feed_tensors
    from export.mil import Arithmetic, Evaluator

    function = package.function()
    _, _, height, width = (size or 0 for size in function.inputs["wide"].shape or ())
    size = Resolution(height, width)
    feed = fill_frame(captures, size)[0].feed
    network, tensors = NetworkChoice(None, None, None).load().network, feed_tensors(feed)

    def reference() -> object:
        with torch.inference_mode():
            return network(*tensors)

    half = any(t.dtype.name == "fp16" for o in function.body.walk() for _, t in o.outputs)
    rows: list[dict[str, object]] = []
    for arithmetic in Arithmetic:
        evaluator = Evaluator(package, arithmetic=arithmetic)
        row = {"package": "float16" if half else "float32", "size": str(size)}
        ratio = _interleaved(partial(evaluator.predict, feed), reference)
        rows.append({**row, "arithmetic": str(arithmetic), "ratio": ratio})
    return rows


def _interleaved(candidate: Callable[[], object], reference: Callable[[], object]) -> float:
    """Median of ``_ROUNDS`` ratios, each of two calls in turn, after one untimed of both."""
    candidate()
    reference()
    return round(
        statistics.median(_seconds(candidate) / _seconds(reference) for _ in range(_ROUNDS)), 2
    )


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    run_command(main)
