"""python -m export --platform ios|android: makes the files that ``python -m benchmarks`` judges.

Only options live here, so that --help answers at once; ``export.command`` does the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dfnet.console import debug_option, network_options, run_command
from dfnet.profiles import RESOLUTIONS
from export.variants import PLATFORMS, RUNTIMES
from quantize.recipe import RECIPES

_PATH = click.Path(path_type=Path)


@click.command("export")
@click.option("--platform", required=True, help=f"One of {', '.join(PLATFORMS)}.")
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    help=f"Only this runtime; may be repeated. One of {', '.join(RUNTIMES)}.",
)
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    help=f"Only this recipe; may be repeated. One of {', '.join(RECIPES)}.",
)
@click.option(
    "--resolution",
    "resolutions",
    multiple=True,
    help=f"{', '.join(RESOLUTIONS)} (add -portrait for upright) or HEIGHTxWIDTH; may be "
    "repeated. Default: preview.",
)
@click.option("--device", help='The resolutions of this phone, such as "Pixel 8 Pro".')
@network_options
@click.option(
    "--captures",
    type=_PATH,
    help="Captures you will score with; checked here to share nothing with the calibration.",
)
@click.option("--output", type=_PATH, default=Path("artifacts"), show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. Default: all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--verbose", is_flag=True, help="Show the log on the console too.")
@debug_option
def main(**options: Any) -> int:
    """Fuse, quantize and export a network to every runtime of a platform.

    Files land in OUTPUT/PLATFORM/<id>/ beside a manifest; what is already there from the same
    ingredients is reused. The SDKs' own output goes to OUTPUT/PLATFORM/export.log.
    """
    from export.command import Options, export

    return export(Options(**options))


if __name__ == "__main__":
    run_command(main)
