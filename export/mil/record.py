"""python -m export.mil.record: records on a Mac what Core ML computes from the goldens.

Only options live here, so that --help needs no coremltools; ``export.mil.recorder`` does the work.
"""

from __future__ import annotations

from pathlib import Path

import click

from dfnet.console import debug_option, run_command


@click.command("export.mil.record")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("tests/coreml_recordings"),
    show_default=True,
    help="Where this Mac's folder of recordings goes; an older one of the same Mac is replaced.",
)
@click.option(
    "--golden",
    "goldens",
    multiple=True,
    help="Only this golden; may be repeated. An unknown name lists them. Default: all.",
)
@debug_option
def main(output: Path, goldens: tuple[str, ...]) -> int:
    """Build the goldens, run them with Core ML on every compute unit, and keep the outputs.

    Needs macOS 15 or newer; see docs/coreml-recordings.md.
    """
    from export.macos import require_macos

    require_macos("Core ML recordings")
    from export.mil.recorder import record

    return record(output, goldens)


if __name__ == "__main__":
    run_command(main)
