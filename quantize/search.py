"""The cheapest recipe within a budget: chosen on validation captures, verified on held-out ones.

Everything in int8 is the cheapest; a float image path, split channels and modules that are kept
float cost more, in this order. Compensated rounding costs nothing once a file is made, so every
candidate has it. The choice sees no held-out capture: ``choose`` is not given any, and ``verify``
comes after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfnet.capture import Split
from dfnet.captureset import CaptureSet, open_captures, require_disjoint, require_split
from dfnet.console import EXIT_MISSED_BAR, EXIT_OK, Progress, results_console
from quantize.recipe import Recipe, find_recipe
from quantize.sensitivity import measure
from quantize.study.candidates import Candidate, float_order, with_float
from quantize.study.journal import write_json
from quantize.study.scoring import Score
from quantize.study.search_report import Ratios, read_ratios, recipe_fields, table
from quantize.study.setting import Options, Setting
from quantize.study.tensors import cost_of

NAMED = ("int8-full", "int8-compensated", "int8")
"""Named recipes that a search tries, cheapest first."""
EXTENDED = "int8"
"""The recipe in which modules are kept float when no named one is within the budget."""


@dataclass(frozen=True)
class SearchOptions:
    """What only a search is given; see ``python -m quantize search --help``."""

    budget_db: float
    held_out: Path
    measured: Path
    most_modules: int
    ratios: Path | None


@dataclass(frozen=True)
class Choice:
    """All candidates that were tried, cheapest first, and the first one within the budget."""

    candidates: tuple[Candidate, ...]
    chosen: Candidate | None

    @property
    def nearest(self) -> Candidate:
        return min(self.candidates, key=lambda candidate: candidate.drop_db)


def run(options: Options, own: SearchOptions) -> int:
    """Chooses, verifies, prints and writes; returns the exit code.

    Raises:
        DFNetError: the captures or the network cannot be used, or results cannot be written.
    """
    ratios = read_ratios(own.ratios)
    held_out = require_split(open_captures(own.held_out), Split.HELD_OUT)
    with Progress() as progress:
        setting = Setting(options, progress)
        require_disjoint(setting.calibration, setting.captures, held_out)
        choice = choose(setting, own)
        verified = verify(setting, choice.chosen, held_out) if choice.chosen else None
    data = _to_json(setting, own, choice, verified, held_out) | {"latency_ratios": ratios}
    path = options.output / "search.json"
    write_json(path, data)
    if options.as_json:
        results_console().print_json(data=data)
    else:
        _print(choice, verified, own, ratios)
        results_console().print(f"All figures: {path}", markup=False)
    return EXIT_OK if choice.chosen else EXIT_MISSED_BAR


def choose(setting: Setting, own: SearchOptions) -> Choice:
    """Tries candidates from the cheapest on until one is within the budget."""
    tried: list[Candidate] = []
    for recipe in _recipes(setting, own):
        tried.append(_try(setting, recipe))
        if tried[-1].drop_db <= own.budget_db:
            return Choice(tuple(tried), tried[-1])
    return Choice(tuple(tried), None)


def verify(setting: Setting, chosen: Candidate, held_out: CaptureSet) -> Score:
    """The chosen recipe's score on captures that had no part in choosing it."""
    name = f"{chosen.recipe.name} on {held_out.root}"
    return setting.score(setting.program(chosen.recipe), setting.sample(held_out), called=name)


def _recipes(setting: Setting, own: SearchOptions) -> Iterator[Recipe]:
    """Candidates, cheapest first; what to keep float is measured when it comes to that."""
    yield from map(find_recipe, NAMED)
    if own.most_modules:
        recipe = find_recipe(EXTENDED)
        sensitivity = measure(setting, recipe, own.measured)
        modules: list[str] = []
        for module in float_order(sensitivity.rows):
            modules.append(module)
            yield with_float(recipe, modules)
            if len(modules) == own.most_modules:
                return


def _try(setting: Setting, recipe: Recipe) -> Candidate:
    program = setting.program(recipe)
    return Candidate(recipe, cost_of(program.prepared), setting.score(program))


def _to_json(
    setting: Setting,
    own: SearchOptions,
    choice: Choice,
    verified: Score | None,
    held_out: CaptureSet,
) -> dict[str, Any]:
    chosen = choice.chosen
    return {
        "identity": setting.identity(held_out_sha256=held_out.sha256),
        "budget_db": own.budget_db,
        "candidates": [candidate.to_json() for candidate in choice.candidates],
        "chosen": chosen.recipe.to_json() if chosen else None,
        "nearest": choice.nearest.recipe.name,
        "held_out": verified.to_json() if verified else None,
    }


def _print(choice: Choice, verified: Score | None, own: SearchOptions, ratios: Ratios) -> None:
    console = results_console()
    console.print(table(choice.candidates, choice.chosen, ratios))
    if choice.chosen is None or verified is None:
        near = choice.nearest
        lines = [
            f"No candidate stays within {own.budget_db:g} dB; nearest is {near.recipe.name} with "
            f"a mean drop of {near.drop_db:.4f} dB. `make finetune-int8` learns the weights anew.",
        ]
    else:
        lines = [
            f"{choice.chosen.recipe.name} is the cheapest within {own.budget_db:g} dB; on held-out "
            f"captures it drops {verified.mean_drop_db:.4f} dB (worst "
            f"{verified.worst_drop_db:.4f}).",
            recipe_fields(choice.chosen.recipe),
        ]
    for line in lines:
        console.print(line, markup=False)
