"""python -m export.coreml_measure: times an exported Core ML file on this Mac.

Only options live here, so that --help answers at once; ``export.coreml_timing`` does the work.
"""

from __future__ import annotations

from pathlib import Path

import click

from dfnet.console import debug_option, run_command

_PATH = click.Path(path_type=Path)


@click.command("export.coreml_measure")
@click.argument("artifact_dir", type=_PATH)
@click.option(
    "--unit",
    default="all",
    show_default=True,
    help="Processors Core ML may choose from: all, cpu, cpu-and-gpu or cpu-and-neural-engine.",
)
@click.option("--output", type=_PATH, required=True, help="The result.json to write.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--warmups",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Untimed runs before each repeat's timed ones, after its first inference.",
)
@click.option("--runs", type=click.IntRange(min=1), default=50, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Each repeat goes on until it has this much time in samples.",
)
@debug_option
def main(
    artifact_dir: Path,
    unit: str,
    output: Path,
    repeats: int,
    warmups: int,
    runs: int,
    seconds: float,
) -> int:
    """Time the Core ML file in ARTIFACT_DIR on this Mac and write a result.json.

    Read it with python -m benchmarks; docs/device-protocol.md explains every field. A Mac's time
    is never an iPhone's.
    """
    from export.macos import require_macos

    require_macos("Core ML timing")
    from export.coreml_timing import Schedule, time_artifact

    schedule = Schedule(repeats=repeats, warmups=warmups, runs=runs, seconds=seconds)
    return time_artifact(artifact_dir, unit, output, schedule)


if __name__ == "__main__":
    run_command(main)
