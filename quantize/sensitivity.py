"""Which tensors int8 costs most: each weight and activation int8 alone, and float alone.

The study works on the recipe's ranges before corrections: chosen rounding leaves weights on their
int8 grid, where there is no float weight to go back to, and a corrected bias makes up for rounding
that does not happen while the weight is float. So a recipe with corrections loses less than the
figures say, but where it loses it is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.fx import GraphModule

from dfnet.console import EXIT_OK, Progress, results_console
from quantize.observers import Mode, modes
from quantize.recipe import Recipe, find_recipe
from quantize.study.journal import Journal, write_json
from quantize.study.scoring import Sample, Score, score
from quantize.study.sensitivity_report import plot, table
from quantize.study.setting import Options, Setting, hash_of
from quantize.study.tensors import QuantizedTensor, quantized_tensors

Figures = dict[str, float]
"""``quantize.study.scoring.Score.to_json``."""


@dataclass(frozen=True)
class Row:
    """What one tensor costs: ``alone`` int8 in a float network, ``kept_float`` in an int8 one.

    ``noise_share`` is the noise it makes alone over that of the whole int8 network; ``regained_db``
    is the mean drop against the truth that keeping it float takes back, ``worst_regained_db`` the
    part of the worst drop.
    """

    tensor: QuantizedTensor
    alone: Figures
    kept_float: Figures
    noise_share: float
    regained_db: float
    worst_regained_db: float

    def to_json(self) -> dict[str, Any]:
        figures = {name: value for name, value in asdict(self).items() if name != "tensor"}
        return {**asdict(self.tensor), **figures}


@dataclass(frozen=True)
class Sensitivity:
    """All tensors of a recipe, the noisiest first, and the whole network in int8."""

    recipe: str
    identity: dict[str, Any]
    int8: Figures
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        rows = [row.to_json() for row in self.rows]
        return {"recipe": self.recipe, "identity": self.identity, "int8": self.int8, "rows": rows}


def run(options: Options, recipe: str, *, top: int) -> int:
    """Measures, prints the ``top`` tensors, and writes all of them and a plot.

    Raises:
        DFNetError: the study cannot be done on these captures or this recipe, or cannot be written.
    """
    chosen = find_recipe(recipe)
    with Progress(total=1) as progress:
        setting = Setting(options, progress)
        sensitivity = measure(setting, chosen, options.output)
    path = options.output / f"sensitivity-{recipe}.json"
    data = sensitivity.to_json()
    write_json(path, data)
    plot(sensitivity.recipe, data["rows"], path.with_suffix(".png"))
    console = results_console()
    if options.as_json:
        console.print_json(data=data)
    else:
        console.print(table(data, top))
        console.print(f"All tensors: {path}, plot: {path.with_suffix('.png')}", markup=False)
    return EXIT_OK


def measure(setting: Setting, recipe: Recipe, folder: Path) -> Sensitivity:
    """Measures every tensor of ``recipe`` that an earlier run has not measured already.

    What is measured is kept in ``folder``/sensitivity-<identity's hash>.jsonl.
    """
    studied = uncorrected(recipe)
    program = setting.program(studied, called=f"{recipe.name} without corrections")
    identity = setting.identity(recipe=studied.to_json(), program_sha256=program.sha256)
    identity["sha256"] = hash_of(identity)
    name = f"sensitivity-{identity['sha256'][:16]}.jsonl"
    measured = _Measured(setting, program.prepared, Journal(folder / name))
    tensors = quantized_tensors(program.prepared)
    rows = []
    with setting.progress.step(f"Measure {len(tensors)} tensors") as step:
        int8 = measured.figures("all int8", Mode.INT8, None)
        for done, (quantizer, tensor) in enumerate(tensors.items(), start=1):
            rows.append(_row(tensor, measured, quantizer, int8))
            setting.progress.count(done, len(tensors))
        step.outcome = f"{measured.count} of {2 * len(tensors) + 1} figures were not known yet"
    rows.sort(key=lambda row: -row.alone["noise"])
    return Sensitivity(recipe.name, identity, int8, tuple(rows))


def uncorrected(recipe: Recipe) -> Recipe:
    """``recipe`` with the same ranges, its weights and biases left as the network has them."""
    plain = replace(recipe, correct_biases=False, compensate=False, split_channels=0.0)
    return replace(plain, rounding_steps=0, finetune_steps=0)


class _Measured:
    """Scores of a prepared graph by name; the network runs only for what is not known yet."""

    def __init__(self, setting: Setting, prepared: GraphModule, journal: Journal) -> None:
        self._setting = setting
        self._prepared = prepared
        self._journal = journal
        self.count = 0

    def figures(self, key: str, mode: Mode, but: nn.Module | None) -> Figures:
        if key not in self._journal:
            samples = self._setting.samples
            found = score_in(self._prepared, samples, mode, [but] if but else [])
            self._journal.record(key, found.to_json())
            self.count += 1
        known: Figures = self._journal[key]
        return known


def score_in(
    prepared: GraphModule, samples: Sequence[Sample], mode: Mode, but: Sequence[nn.Module]
) -> Score:
    """The score of a prepared graph with all tensors in ``mode`` but some."""
    with modes(prepared, mode, but=but):
        return score(prepared, samples)


def _row(tensor: QuantizedTensor, measured: _Measured, quantizer: nn.Module, int8: Figures) -> Row:
    alone = measured.figures(f"int8 alone: {tensor.name}", Mode.FLOAT, quantizer)
    kept = measured.figures(f"float alone: {tensor.name}", Mode.INT8, quantizer)
    return Row(
        tensor=tensor,
        alone=alone,
        kept_float=kept,
        noise_share=alone["noise"] / int8["noise"],
        regained_db=int8["drop_db"] - kept["drop_db"],
        worst_regained_db=int8["worst_drop_db"] - kept["worst_drop_db"],
    )
