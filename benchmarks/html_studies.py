"""Sensitivity studies on a report page: those of the very checkpoint that was exported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from benchmarks.html_plots import sensitivity
from dfnet.artifact import Artifact
from dfnet.profiles import Precision

_MOST = 15


@dataclass(frozen=True)
class Study:
    """One recipe's study: its noisiest tensors and their plot, or why there is none."""

    recipe: str
    command: str
    rows: list[dict[str, Any]]
    total: int
    plot: Markup | None
    reason: str | None


def studies_of(output: Path, artifacts: Sequence[Artifact]) -> tuple[Study, ...]:
    """The studies in ``output``/sensitivity of the int8 recipes among ``artifacts``."""
    checkpoints = {
        str(a.manifest.recipe["name"]): a.manifest.checkpoint_sha256
        for a in artifacts
        if a.manifest.precision is Precision.W8A8
    }
    return tuple(
        _study(output / "sensitivity" / f"sensitivity-{recipe}.json", recipe, checkpoint)
        for recipe, checkpoint in checkpoints.items()
    )


def _study(path: Path, recipe: str, checkpoint: str) -> Study:
    command = f"python -m quantize sensitivity --recipe {recipe}"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        studied, rows = data["identity"]["checkpoint_sha256"], data["rows"]
        if studied != checkpoint:
            raise ValueError(f"the study is of checkpoint {studied[:12]}, not {checkpoint[:12]}")
        plot = sensitivity(recipe, rows[:_MOST])
    except FileNotFoundError:
        return Study(recipe, command, [], 0, None, "no study of it yet")
    except (OSError, KeyError, TypeError, ValueError) as error:
        return Study(recipe, command, [], 0, None, str(error))
    return Study(recipe, command, rows[:_MOST], len(rows), plot, None)
