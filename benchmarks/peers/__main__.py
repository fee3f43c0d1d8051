"""python -m benchmarks.peers: our int8 beside each SDK's own, exported, scored and timed anew.

Only options live here, so that --help answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.options import PATH, captures_option
from dfnet.console import debug_option, network_options, run_command


@click.command("benchmarks.peers")
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    type=click.Choice(["litert", "executorch", "onnx"]),
    help="Only this runtime; may be repeated.",
)
@click.option("--resolution", default="preview", show_default=True)
@click.option(
    "--protocol",
    type=click.Choice(["full", "quick"]),
    default="full",
    show_default=True,
    help="full: 3 cold repeats of 50 runs. quick: 3 rounds in one process.",
)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--output", type=PATH, default=Path("artifacts/peers"), show_default=True)
@captures_option
@network_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@debug_option
def main(**options: Any) -> int:
    """Compare with the plainest documented export of each SDK, in one interleaved run per runtime.

    Exports what is missing into OUTPUT, scores every file on captures, times the same files in
    turn, and prints a line per runtime. Takes about ten minutes; what has not changed is reused.

        python -m benchmarks.peers --json > docs/performance.json
    """
    from benchmarks.peers.command import Options, run

    return run(Options(**options))


if __name__ == "__main__":
    run_command(main)
