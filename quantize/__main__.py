"""python -m quantize sensitivity | search | finetune | stability: studies of what int8 costs.

Only options live here, so that --help answers at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from dfnet.console import debug_option, examples, network_options, run_command
from quantize.recipe import RECIPES

_PATH = click.Path(path_type=Path)
_Function = TypeVar("_Function", bound=Callable[..., object])

_SHARED = (
    network_options,
    click.option(
        "--captures",
        type=_PATH,
        default=Path("data/captures/validation"),
        show_default=True,
        help="Validation captures to decide on; held-out ones are refused.",
    ),
    click.option(
        "--captures-count", type=click.IntRange(min=1), help="Only the first N of them: quicker."
    ),
    click.option(
        "--store",
        type=_PATH,
        help="Where quantized programs are kept and found again. Default: artifacts/quantized.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    debug_option,
)

_RECIPE = click.option(
    "--recipe", default="int8", show_default=True, help=f"One of {', '.join(RECIPES)}."
)


def _shared(folder: str) -> Callable[[_Function], _Function]:
    output = click.option(
        "--output", type=_PATH, default=Path("artifacts") / folder, show_default=True
    )

    def add(function: _Function) -> _Function:
        for option in reversed((*_SHARED, output)):
            function = option(function)
        return function

    return add


@click.group("quantize")
def main() -> None:
    """Study a quantized network on validation captures; no exported file is changed."""


@main.command(
    "sensitivity",
    epilog=examples(
        "python -m quantize sensitivity --recipe int8 --top 10",
    ),
)
@_RECIPE
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Rows.")
@_shared("sensitivity")
def sensitivity_command(recipe: str, top: int, **shared: Any) -> int:
    """Measure what each weight and activation costs in int8, alone and among all others.

    Writes a table of all tensors and a plot. Finished measurements are kept: a run that was
    interrupted goes on where it stopped.
    """
    with _without_import_warnings():
        from quantize.sensitivity import run
        from quantize.study.setting import Options

    return run(Options(**shared), recipe, top=top)


@main.command(
    "search",
    epilog=examples(
        "python -m quantize search --budget-db 0.03",
    ),
)
@click.option("--budget-db", type=float, default=0.03, show_default=True, help="Largest mean drop.")
@click.option(
    "--held-out",
    type=_PATH,
    default=Path("data/captures/held_out"),
    show_default=True,
    help="Captures that the chosen recipe, and no other, is scored on afterwards.",
)
@click.option(
    "--sensitivity",
    "measured",
    type=_PATH,
    default=Path("artifacts/sensitivity"),
    show_default=True,
    help="Where `sensitivity` keeps its measurements; they decide what is kept float first.",
)
@click.option(
    "--most-modules",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="Try to keep at most so many modules float.",
)
@click.option(
    "--ratios", type=_PATH, help="Rows of `python -m benchmarks report --json`, for latencies."
)
@_shared("search")
def search_command(**options: Any) -> int:
    """Find the cheapest recipe whose mean drop on validation captures is within a budget.

    Exits 1 when there is none.
    """
    with _without_import_warnings():
        from quantize.search import SearchOptions, run
        from quantize.study.setting import Options

    own = ("budget_db", "held_out", "measured", "most_modules", "ratios")
    chosen = SearchOptions(**{name: options.pop(name) for name in own})
    return run(Options(**options), chosen)


@main.command(
    "finetune",
    epilog=examples(
        "python -m quantize finetune",
    ),
)
@_shared("finetune")
def finetune_command(**shared: Any) -> int:
    """Learn int8 weights from the calibration captures, and compare them with rounded ones.

    The last resort where no recipe is within your budget; takes up to 30 CPU minutes. The result
    is kept: `python -m export --recipe int8-finetuned` finds it. Exits 1 when it does not help.
    """
    with _without_import_warnings():
        from quantize.study.finetuning import run
        from quantize.study.setting import Options

    return run(Options(**shared))


@main.command(
    "stability",
    epilog=examples(
        "python -m quantize stability --recipe int8",
    ),
)
@_RECIPE
@_shared("stability")
def stability_command(recipe: str, **shared: Any) -> int:
    """Calibrate on two halves of the captures, and compare how both do.

    Exits 1 when the two drops against the truth differ by more than 0.02 dB.
    """
    with _without_import_warnings():
        from quantize.stability import run
        from quantize.study.setting import Options

    return run(Options(**shared), recipe)


@contextmanager
def _without_import_warnings() -> Iterator[None]:
    """Importing torchao logs what it was not built for."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


if __name__ == "__main__":
    run_command(main)
