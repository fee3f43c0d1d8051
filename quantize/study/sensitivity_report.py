"""Sensitivity for people: a table and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from dfnet.errors import ArtifactError

_PLOTTED = 25
_COLOURS = {"weight": "tab:blue", "activation": "tab:orange"}
_HEADINGS = (
    "int8 alone\nPSNR dB",
    "worst\ndB",
    "drop\ndB",
    "noise\nshare",
    "float alone\nPSNR dB",
    "regained\ndB",
    "worst\ndB",
    "million\nMACs",
)


def table(data: dict[str, Any], top: int) -> Table:
    """The ``top`` noisiest tensors of ``quantize.sensitivity.Sensitivity.to_json``."""
    shown = data["rows"][:top]
    int8 = data["int8"]
    result = Table(
        title=f"{data['recipe']} before corrections: the {len(shown)} noisiest of "
        f"{len(data['rows'])} tensors; all int8 {int8['psnr_db']:.1f} dB (worst "
        f"{int8['worst_psnr_db']:.1f}), drop {int8['drop_db']:.4f} dB "
        f"(worst {int8['worst_drop_db']:.4f})"
    )
    result.add_column("tensor", no_wrap=True)
    for heading in _HEADINGS:
        result.add_column(heading, justify="right")
    for row in shown:
        result.add_row(*_cells(row))
    return result


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    alone, kept = row["alone"], row["kept_float"]
    return (
        escape(row["name"]),
        f"{alone['psnr_db']:.1f}",
        f"{alone['worst_psnr_db']:.1f}",
        f"{alone['drop_db']:.4f}",
        f"{row['noise_share']:.1%}",
        f"{kept['psnr_db']:.2f}",
        f"{row['regained_db']:.4f}",
        f"{row['worst_regained_db']:.4f}",
        f"{row['macs'] / 1e6:.1f}" if row["macs"] else "",
    )


def plot(recipe: str, rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes bars of the noisiest tensors' noise shares as a PNG.

    Raises:
        ArtifactError: it cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    shown = list(reversed(rows[:_PLOTTED]))
    figure, axes = plt.subplots(figsize=(9, 1 + 0.26 * len(shown)), layout="constrained")
    axes.barh(
        [row["name"] for row in shown],
        [100 * row["noise_share"] for row in shown],
        color=[_COLOURS[row["kind"]] for row in shown],
    )
    axes.set(
        xlabel="noise when int8 alone, % of the whole int8 network's",
        title=f"Sensitivity of {recipe} before corrections",
    )
    axes.grid(axis="x", alpha=0.3)
    patches = [Patch(color=colour, label=kind) for kind, colour in _COLOURS.items()]
    axes.legend(handles=patches, loc="lower right")
    try:
        figure.savefig(path, dpi=110, metadata={"Software": None})
    except OSError as error:
        raise ArtifactError(
            f"Plot {path}: got {error.strerror}, needed a file to write. Choose another --output."
        ) from error
    finally:
        plt.close(figure)
