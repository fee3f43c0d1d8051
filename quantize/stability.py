"""Whether calibration decides the result: two disjoint halves of it must do equally well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from dfnet.captureset import CaptureSet
from dfnet.console import EXIT_MISSED_BAR, EXIT_OK, Progress, results_console
from dfnet.errors import CalibrationError
from quantize.captures import MIN_CAPTURES
from quantize.recipe import Recipe, find_recipe
from quantize.study.journal import write_json
from quantize.study.scoring import Score
from quantize.study.setting import Options, Setting

MOST_APART_DB = 0.02
"""What the mean drops of the two halves may differ by."""


@dataclass(frozen=True)
class Half:
    """One half of the calibration captures, and how the program that it calibrated does."""

    captures: CaptureSet
    program_sha256: str
    score: Score

    def to_json(self) -> dict[str, Any]:
        return {
            "captures": self.captures.ids,
            "captures_sha256": self.captures.sha256,
            "program_sha256": self.program_sha256,
            **self.score.to_json(),
        }


def run(options: Options, recipe: str) -> int:
    """Compares the two halves, prints and writes the result; returns the exit code.

    Raises:
        CalibrationError: too few captures for two halves.
        DFNetError: see ``Setting``; or the result cannot be written.
    """
    chosen = find_recipe(recipe)
    with Progress() as progress:
        setting = Setting(options, progress)
        halves = compare(setting, chosen)
    data = _to_json(setting, chosen, halves)
    path = options.output / f"stability-{recipe}.json"
    write_json(path, data)
    console = results_console()
    if options.as_json:
        console.print_json(data=data)
    else:
        console.print(_table(recipe, halves))
        console.print(
            f"The mean drops are {data['apart_db']:.4f} dB apart, needed at most "
            f"{MOST_APART_DB:g} dB: {'stable' if data['stable'] else 'not stable'}. "
            f"All figures: {path}",
            markup=False,
        )
    return EXIT_OK if data["stable"] else EXIT_MISSED_BAR


def _to_json(setting: Setting, recipe: Recipe, halves: tuple[Half, Half]) -> dict[str, Any]:
    apart = abs(halves[0].score.mean_drop_db - halves[1].score.mean_drop_db)
    return {
        "identity": setting.identity(recipe=recipe.to_json()),
        "halves": [half.to_json() for half in halves],
        "apart_db": apart,
        "most_apart_db": MOST_APART_DB,
        "stable": apart <= MOST_APART_DB,
    }


def compare(setting: Setting, recipe: Recipe) -> tuple[Half, Half]:
    """Calibrates on each half, and scores both on the validation captures.

    Raises:
        CalibrationError: see ``split_in_two`` and ``quantize.ptq.quantize``.
    """
    first, second = split_in_two(setting.calibration)
    return _half(setting, recipe, first, 1), _half(setting, recipe, second, 2)


def split_in_two(calibration: CaptureSet) -> tuple[CaptureSet, CaptureSet]:
    """Every second capture, and the others.

    Raises:
        CalibrationError: a half would be too small to calibrate.
    """
    halves = calibration.ids[::2], calibration.ids[1::2]
    if len(halves[1]) < MIN_CAPTURES:
        raise CalibrationError(
            f"Calibration captures {calibration.root}: got {len(calibration)}, needed at least "
            f"{2 * MIN_CAPTURES} to calibrate on two halves. Add captures of other scenes."
        )
    return calibration.select(halves[0]), calibration.select(halves[1])


def _half(setting: Setting, recipe: Recipe, captures: CaptureSet, number: int) -> Half:
    name = f"{recipe.name} on half {number}"
    program = setting.program(recipe, captures, called=name)
    return Half(captures, program.sha256, setting.score(program, called=name))


def _table(recipe: str, halves: tuple[Half, Half]) -> Table:
    table = Table(title=f"{recipe} calibrated on two halves of the captures")
    headings = ("half", "captures", "PSNR dB", "worst dB", "drop dB", "worst drop dB")
    for heading in headings:
        table.add_column(heading, justify="right")
    for number, half in enumerate(halves, start=1):
        figures = half.score.to_json()
        table.add_row(
            str(number),
            str(len(half.captures)),
            f"{figures['psnr_db']:.2f}",
            f"{figures['worst_psnr_db']:.2f}",
            f"{figures['drop_db']:.4f}",
            f"{figures['worst_drop_db']:.4f}",
        )
    return table
