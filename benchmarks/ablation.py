"""What each step of quantizing is worth: a table of recipes by runtime, from a report's rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dfnet.errors import ArtifactError
from dfnet.profiles import Precision
from quantize.recipe import RECIPES

STEPS: dict[str, str] = {
    "sdk-default": "the SDK's own",
    "int8-full-naive": "everything int8",
    "int8-full": "+ split blend, compensation (`int8-full`)",
    "int8-naive": "float image path",
    "int8-biases": "+ corrected biases",
    "int8-learned": "+ equalization, learned rounding",
    "int8-finetuned": "fine-tuned",
    "int8-compensated": "compensation",
    "int8": "+ split channels (`int8`)",
    "w8": "int8 weights alone",
    "w8a16": "int8 weights, int16 activations",
}
"""Recipe -> heading, in the order of the columns; recipes without a row are left out."""

_Row = dict[str, Any]


def render_steps(rows: Sequence[_Row]) -> str:
    """Markdown: drops, PSNR and latency ratios, a line per runtime, a column per recipe.

    Raises:
        ArtifactError: a recipe unknown to the table; two files of one runtime and recipe; rows of
            several resolutions.
    """
    _require_one_resolution(rows)
    cells = _by_runtime(rows)
    recipes = [name for name in STEPS if any(name in files for files in cells.values())]
    tables = (
        (
            "Drop from float against the truth in dB: mean / worst capture; ✗ fails a bar",
            _drop,
        ),
        ("PSNR against the float network in dB: mean / worst capture", _psnr),
        ("Latency over the fp32 file of the same runtime, timed in turn on one host", _latency),
    )
    parts = [f"{rows[0]['resolution']}, held-out captures."]
    for title, cell in tables:
        parts += [f"{title}:", _table(cells, recipes, cell)]
    return "\n\n".join(parts)


def _require_one_resolution(rows: Sequence[_Row]) -> None:
    sizes = sorted({str(row["resolution"]) for row in rows})
    if len(sizes) != 1:
        raise ArtifactError(
            f"Results: got the resolutions {', '.join(sizes) or 'of no rows'}, needed one. Report "
            "the files of one resolution."
        )


def _by_runtime(rows: Sequence[_Row]) -> dict[str, dict[str, _Row]]:
    """Runtime and backend -> recipe -> row; an int8 file that no column shows is an error."""
    found: dict[str, dict[str, _Row]] = {}
    for row in rows:
        recipe = row["recipe"]
        if recipe not in STEPS and not _is_float(recipe):
            raise ArtifactError(
                f"Results: got the recipe {recipe}, needed one of {', '.join(STEPS)}. Add it to "
                "the steps or leave it out of the report."
            )
        files = found.setdefault(f"{row['runtime']} ({row['backend']})", {})
        if files.setdefault(recipe, row) is not row:
            raise ArtifactError(
                f"Results: got two rows of {row['runtime']} {row['backend']} {recipe}, needed one. "
                "Report the files of one platform, checkpoint and device."
            )
    return {name: files for name, files in found.items() if set(files) & set(STEPS)}


def _is_float(recipe: str) -> bool:
    return recipe in RECIPES and RECIPES[recipe].precision in (Precision.FP32, Precision.FP16)


def _table(
    cells: dict[str, dict[str, _Row]], recipes: list[str], cell: Callable[[_Row], str]
) -> str:
    headings = ["runtime", *(STEPS[name] for name in recipes)]
    lines = [headings, ["---"] * len(headings)]
    for runtime, files in cells.items():
        shown = [cell(files[name]) if name in files else "no such file" for name in recipes]
        lines.append([runtime, *shown])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _drop(row: _Row) -> str:
    failed = " ✗" if row["verdict"] == "failed" else ""
    return _pair(row["drop_db"], row["worst_drop_db"], "z.3f") + failed


def _psnr(row: _Row) -> str:
    return _pair(row["psnr_db"], row["worst_psnr_db"], ".1f")


def _pair(mean: float | None, worst: float | None, pattern: str) -> str:
    if mean is None or worst is None:
        return "not run"
    return f"{mean:{pattern}} / {worst:{pattern}}"


def _latency(row: _Row) -> str:
    if row["latency_ratio"] is None:
        return "not run"
    doubt = "" if row["latency_validity"] == "VALID" else " (INVALID)"
    return f"{row['latency_ratio']:.2f}{doubt}"
