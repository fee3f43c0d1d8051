"""python -m export --platform ios|android: makes the files that ``python -m benchmarks`` judges.

Only options live here, so that --help answers at once; ``export.command`` does the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from dfnet.console import debug_option, examples, network_options, run_command
from dfnet.profiles import RESOLUTIONS
from export.variants import PLATFORMS, RUNTIMES
from quantize.recipe import RECIPES

_PATH = click.Path(path_type=Path)


@click.group(
    "export",
    invoke_without_command=True,
    subcommand_metavar="[COMMAND]",
    epilog=examples(
        "python -m export --platform ios",
        "python -m export --platform android --recipe fp32 --recipe int8 --resolution hd",
        "python -m export --platform ios --checkpoint my.safetensors --output mine",
    ),
)
@click.option("--platform", help=f"One of {', '.join(PLATFORMS)}; required to export.")
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
@click.option(
    "--bundle",
    is_flag=True,
    help="One file with all resolutions, weights stored once; see docs/bundles.md.",
)
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
@click.pass_context
def main(context: click.Context, /, **options: Any) -> int:
    """Fuse, quantize and export a network to every runtime of a platform.

    Files land in OUTPUT/PLATFORM/<id>/ beside a manifest; what is already there from the same
    ingredients is reused. The SDKs' own output goes to OUTPUT/PLATFORM/export.log.
    """
    if context.invoked_subcommand:
        _refuse_options_before(context, context.invoked_subcommand)
        return 0
    if options["platform"] is None:
        raise click.MissingParameter(param_type="option", param_hint="'--platform'")

    from export.command import Options, export

    return export(Options(**options))


@main.command(
    epilog=examples(
        "python -m export doctor",
        "python -m export doctor --json",
    )
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@debug_option
def doctor(as_json: bool) -> int:
    """Say what this machine can build, run and measure, and how to install what is missing.

    Exits 0 when `make export-ios` and `make test` can run here, else 1.
    """
    from export.doctor import doctor

    return doctor(as_json=as_json)


def _refuse_options_before(context: click.Context, command: str) -> None:
    """What would export is not an option of ``command``; dropping it silently would mislead."""
    given = [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if parameter.name is not None
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"{command}: got {', '.join(given)} before the command, needed its options after it."
        )


@main.command(
    epilog=examples(
        "python -m export lint --platform android",
    )
)
@click.option("--platform", required=True, help=f"One of {', '.join(PLATFORMS)}.")
@click.option(
    "--runtime", "runtimes", multiple=True, help="Only this runtime's files; may be repeated."
)
@click.option(
    "--recipe", "recipes", multiple=True, help="Only this recipe's files; may be repeated."
)
@network_options
@click.option("--output", type=_PATH, default=Path("artifacts"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@debug_option
def lint(**options: Any) -> int:
    """Name every operator that phones run badly or wrongly, before anything is exported.

    Reads the network alone: where each operator stands, what becomes of it in the files asked for,
    and what to write instead. Where files compute in float16, the largest values on calibration
    captures are measured too. Exits 1 when there is a problem; notes cost time only.
    """
    from export.lint.command import Options
    from export.lint.command import lint as run

    return run(Options(**options))


if __name__ == "__main__":
    run_command(main)
