"""python -m export.photo --artifact DIR --capture FOLDER --output photo.png refocuses a photo.

Only options live here, so that --help answers at once; ``export.photo.command`` does the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dfnet.console import debug_option, run_command

_PATH = click.Path(path_type=Path)


@click.command("export.photo")
@click.option(
    "--artifact",
    "artifacts",
    type=_PATH,
    multiple=True,
    required=True,
    help="Folder of an exported file; may be repeated to offer several resolutions.",
)
@click.option(
    "--capture",
    type=_PATH,
    required=True,
    help="Folder with wide.png, ultrawide.png, defocus_wide.png, defocus_ultrawide.png, "
    "occlusion.png and target-NAME.png.",
)
@click.option("--target", help="Which target-NAME.png; needed when there are several.")
@click.option("--output", type=_PATH, required=True, help="The PNG to write.")
@click.option(
    "--memory-mb",
    type=click.IntRange(min=1),
    help="Choose a resolution that stays within this; exit 1 when it did not.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@debug_option
def main(**options: Any) -> int:
    """Refocus a photo of any size with an exported file, whole or in tiles.

    An interrupted run is taken up where it stopped by giving the same command again.
    """
    from export.photo.command import Options, run

    return run(Options(**options))


if __name__ == "__main__":
    run_command(main)
