"""A search for people: the table of candidates, measured latencies, the recipe to copy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from dfnet.errors import ArtifactError
from dfnet.profiles import Precision
from quantize.recipe import Recipe
from quantize.study.candidates import Candidate

Ratios = Mapping[str, Sequence[float]]
"""Measured latencies over the float file's, by recipe."""

_HEADINGS = (
    "drop\ndB",
    "worst\ndB",
    "MACs",
    "not in\nint8",
    "bytes of\nfloat weights",
    "int8/float\nboundaries",
    "latency\nratio",
    "on the\nPareto front",
)


def read_ratios(path: Path | None) -> dict[str, list[float]]:
    """Latency ratios by recipe from the rows of ``python -m benchmarks report --json``.

    Raises:
        ArtifactError: the file is missing or holds something else.
    """
    ratios: dict[str, list[float]] = {}
    if path is None:
        return ratios
    try:
        for row in json.loads(path.read_text(encoding="utf-8")):
            if row["latency_ratio"] is not None:
                ratios.setdefault(str(row["recipe"]), []).append(float(row["latency_ratio"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"Ratios {path}: got {type(error).__name__} ({error}), needed the rows that `python -m "
            "benchmarks report --json` prints. Write them to this file."
        ) from error
    return ratios


def table(candidates: Sequence[Candidate], chosen: Candidate | None, ratios: Ratios) -> Table:
    """All candidates, cheapest first, the chosen one marked; MACs over the fewest of them."""
    result = Table(title="Drop against the truth on validation captures, and cost")
    result.add_column("candidate", no_wrap=True)
    for heading in _HEADINGS:
        result.add_column(heading, justify="right")
    least = min(candidate.cost.macs for candidate in candidates)
    for candidate in candidates:
        beaten = any(candidate.beaten_by(other) for other in candidates)
        result.add_row(
            escape(candidate.recipe.name) + (" (chosen)" if candidate is chosen else ""),
            f"{candidate.drop_db:.4f}",
            f"{candidate.score.worst_drop_db:.4f}",
            f"{candidate.cost.macs / least:.2f}",
            f"{candidate.cost.mac_share:.1%}",
            str(candidate.cost.weight_bytes),
            str(candidate.cost.boundaries),
            _latency(ratios.get(candidate.recipe.name, ())),
            "no" if beaten else "yes",
        )
    return result


def recipe_fields(recipe: Recipe) -> str:
    """``recipe`` as it would be written in ``quantize/recipe.py``."""
    lines = []
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if field.default is MISSING or value != field.default:
            is_enum = isinstance(value, Precision)
            lines.append(
                f"    {field.name}={f'Precision.{value.name}' if is_enum else repr(value)},"
            )
    return "\n".join(["Recipe(", *lines, ")"])


def _latency(ratios: Sequence[float]) -> str:
    if not ratios:
        return "not run"
    low, high = min(ratios), max(ratios)
    return f"{low:.2f}" if len(ratios) == 1 else f"{low:.2f} to {high:.2f}"
