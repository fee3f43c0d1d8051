"""The options that commands of ``python -m benchmarks`` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from dfnet.profiles import RESOLUTIONS
from export.variants import PLATFORMS, RUNTIMES
from quantize.recipe import RECIPES

PATH = click.Path(path_type=Path)
_Function = TypeVar("_Function", bound=Callable[..., object])


def _option_group(*options: Callable[[_Function], _Function]) -> Callable[[_Function], _Function]:
    def add(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
        return function

    return add


output_option = click.option(
    "--output",
    type=PATH,
    default=Path("artifacts"),
    show_default=True,
    help="Where export put the files; results go to OUTPUT/results.",
)
platform_option = click.option("--platform", help=f"One of {', '.join(PLATFORMS)}. Default: all.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
junit_option = click.option(
    "--junit", type=PATH, help="Also write JUnit XML, a test per check, to this file."
)

_THREADS = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads. Default: up to 4."
)
_VERBOSE = click.option("--verbose", is_flag=True, help="Show the log on the console too.")

resolution_option = click.option(
    "--resolution",
    "resolutions",
    multiple=True,
    help=f"Only this: {', '.join(RESOLUTIONS)} (add -portrait for upright) or HEIGHTxWIDTH; "
    "may be repeated.",
)

_which = _option_group(
    click.option(
        "--runtime",
        "runtimes",
        multiple=True,
        help=f"Only this runtime; may be repeated. One of {', '.join(RUNTIMES)}.",
    ),
    click.option(
        "--recipe",
        "recipes",
        multiple=True,
        help=f"Only this recipe; may be repeated. One of {', '.join(RECIPES)}.",
    ),
    resolution_option,
)

files_options = _option_group(
    _which, click.option("--device", help="Only the resolutions of this phone."), output_option
)
choice_options = _option_group(files_options, _THREADS, json_option, _VERBOSE)
device_files_options = _option_group(_which, output_option, _THREADS, json_option, _VERBOSE)

captures_option = click.option(
    "--captures",
    type=PATH,
    default=Path("data/captures/held_out"),
    show_default=True,
    help="Captures with true renderings to score with.",
)


baselines_option = click.option(
    "--baselines",
    type=PATH,
    default=Path("benchmarks/baselines"),
    show_default=True,
    help="Where accepted measurements are kept, one file per artifact and device.",
)


device_options = _option_group(
    click.option(
        "--device",
        "--serial",
        "devices",
        multiple=True,
        metavar="emulator|SERIAL",
        help="A phone by its serial, or emulator: booted for this and shut down. May be repeated; "
        "all run at the same time. Default: the only phone that is connected.",
    ),
    click.option(
        "--mode",
        type=click.Choice(["burst", "sustained"]),
        default="burst",
        show_default=True,
        help="Time a phone's inferences back to back for --seconds of them, or on the clock.",
    ),
    click.option(
        "--seconds",
        type=click.FloatRange(min=0.1),
        default=1.0,
        show_default=True,
        help="Per repeat.",
    ),
    click.option("--parity-only", is_flag=True, help="Compare outputs, time nothing."),
    click.option(
        "--big-cores", "fastest_cores", is_flag=True, help="Bind the threads to the fastest cores."
    ),
    click.option(
        "--accelerator",
        type=click.Choice(["cpu", "gpu"]),
        default="cpu",
        show_default=True,
        help="gpu: LiteRT's GPU delegate.",
    ),
    click.option("--xnnpack-fp16", is_flag=True, help="Force float16 arithmetic; LiteRT alone."),
    click.option(
        "--runner-binary",
        type=PATH,
        help="Your own runner (android_harness/PROTOCOL.md), NDK-built.",
    ),
    click.option(
        "--boots",
        type=click.IntRange(min=0),
        default=1,
        show_default=True,
        help="Emulated devices that count instructions, one after the other; 0: none.",
    ),
)

DEVICE_OPTIONS = (
    "devices",
    "mode",
    "seconds",
    "parity_only",
    "fastest_cores",
    "accelerator",
    "xnnpack_fp16",
    "runner_binary",
    "boots",
)
"""What ``device_options`` adds to a command's arguments, by name."""
