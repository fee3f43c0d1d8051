"""Fine-tunes a network's int8 weights, and says whether that beats rounding them well."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from dfnet.console import EXIT_MISSED_BAR, EXIT_OK, Progress, results_console
from quantize.recipe import Recipe, find_recipe
from quantize.study.journal import write_json
from quantize.study.scoring import Score
from quantize.study.setting import DEFAULT_STORE, Options, Setting

ROUNDED = "int8"
FINETUNED = "int8-finetuned"


@dataclass(frozen=True)
class Contender:
    """A recipe's program, its score on the captures to decide on, and what making it took."""

    recipe: Recipe
    program_sha256: str
    score: Score
    cpu_minutes: float
    """Next to nothing where the program was in the store already."""

    def to_json(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.to_json(),
            "program_sha256": self.program_sha256,
            "cpu_minutes": self.cpu_minutes,
            **self.score.to_json(),
        }


def run(options: Options) -> int:
    """Fine-tunes, compares, prints and writes; returns the exit code: 1 where it does not help.

    The fine-tuned program stays in the store, where an export of its recipe finds it.

    Raises:
        DFNetError: see ``Setting``; or the result cannot be written.
    """
    with Progress() as progress:
        setting = Setting(options, progress)
        rounded, finetuned = (_contender(setting, name) for name in (ROUNDED, FINETUNED))
    helps = finetuned.score.mean_drop_db < rounded.score.mean_drop_db
    data = {
        "identity": setting.identity(),
        "contenders": [rounded.to_json(), finetuned.to_json()],
        "helps": helps,
    }
    path = options.output / "finetune.json"
    write_json(path, data)
    console = results_console()
    if options.as_json:
        console.print_json(data=data)
        return EXIT_OK if helps else EXIT_MISSED_BAR
    console.print(_table((rounded, finetuned)))
    kept = options.store or DEFAULT_STORE
    advice = (
        f"{FINETUNED} loses less; its program is in {kept}. Export it: --recipe {FINETUNED}"
        if helps
        else f"{FINETUNED} loses no less than {ROUNDED}: keep {ROUNDED}."
    )
    console.print(advice, f"All figures: {path}", sep="\n", markup=False)
    return EXIT_OK if helps else EXIT_MISSED_BAR


def _contender(setting: Setting, name: str) -> Contender:
    started = time.process_time()
    program = setting.program(find_recipe(name))
    spent = (time.process_time() - started) / 60
    return Contender(program.recipe, program.sha256, setting.score(program), spent)


def _table(contenders: tuple[Contender, ...]) -> Table:
    table = Table(title="int8 weights rounded, and fine-tuned from calibration captures")
    headings = ("recipe", "PSNR dB", "worst dB", "drop dB", "worst drop dB", "CPU min")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "recipe" else "right")
    for contender in contenders:
        figures = contender.score.to_json()
        table.add_row(
            contender.recipe.name,
            f"{figures['psnr_db']:.2f}",
            f"{figures['worst_psnr_db']:.2f}",
            f"{figures['drop_db']:.4f}",
            f"{figures['worst_drop_db']:.4f}",
            f"{contender.cpu_minutes:.1f}",
        )
    return table
