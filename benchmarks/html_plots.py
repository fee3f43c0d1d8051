"""Plots of a report page: inline SVG that takes the page's colours, light or dark."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup

matplotlib.use("Agg")
import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_INK, _FAINT, _ONE, _TWO, _BAD = "#010101", "#010102", "#010103", "#010104", "#010105"
_THEMED = {
    _INK: "currentColor",
    _FAINT: "var(--line)",
    _ONE: "var(--one)",
    _TWO: "var(--two)",
    _BAD: "var(--bad)",
}
"""Stand-ins that matplotlib draws with, and what the page paints them in."""

_WIDTH = 4.8
"""Inches; at 72 points each this is a phone's width, so that text stays readable there."""

_STYLE: dict[Any, Any] = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
}

Draw = Callable[[Axes], None]


def plot(label: str, height: float, draw: Draw) -> Markup:
    """What ``draw`` puts on axes of ``height`` inches, as SVG; ``label`` says it in words."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": label}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return _themed(stream.getvalue(), label)


def _themed(text: str, label: str) -> Markup:
    text = text[text.index("<svg") :]
    # Styles would reach the whole page, and so would the ids of groups, which nothing refers to.
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    for standing, colour in _THEMED.items():
        text = text.replace(standing, colour)
    text = re.sub(r"font-family: [^;\"]*;", "", text)
    opening = Markup('<svg role="img" aria-label="{}" class="plot"').format(label)
    return Markup(text.replace("<svg", opening, 1))


def drops(files: Sequence[tuple[str, Sequence[float], float | None]]) -> Markup:
    """A row per file: the drop of every capture and target, their mean, and the most allowed."""

    def draw(axes: Axes) -> None:
        for y, (_, values, limit) in enumerate(files):
            axes.plot(values, [y] * len(values), "|", color=_ONE, markersize=9, alpha=0.6)
            if values:
                axes.plot(np.mean(values), y, "o", color=_INK, markersize=5)
            if limit is not None:
                axes.plot([limit] * 2, [y - 0.35, y + 0.35], color=_BAD, linewidth=2)
        _name_rows(axes, [name for name, _, _ in files])
        axes.set_xlabel("drop against the truth, dB")

    label = (
        "Drop of every capture and target for each file; the dot is the mean, the bar the most "
        "that the mean may be."
    )
    return plot(label, _height(files), draw)


def ratios(files: Sequence[tuple[str, float, float, float]]) -> Markup:
    """A row per file: median latency over fp32's, with the 5th and 95th percentile."""

    def draw(axes: Axes) -> None:
        for y, (_, low, middle, high) in enumerate(files):
            axes.plot([low, high], [y, y], color=_ONE, linewidth=2)
            axes.plot(middle, y, "o", color=_INK, markersize=5)
        axes.axvline(1, color=_BAD, linewidth=1.5)
        axes.set_xlim(left=0)
        _name_rows(axes, [name for name, *_ in files])
        axes.set_xlabel("time over fp32's")

    label = (
        "Latency of each file over the fp32 file of its runtime: the median, and the 5th to 95th "
        "percentile of all samples."
    )
    return plot(label, _height(files), draw)


def samples(
    name: str, repeats: Sequence[Sequence[float]], statistics: Mapping[str, float]
) -> Markup:
    """A row per repeat with every sample in ms, and lines at the percentiles of all."""

    def draw(axes: Axes) -> None:
        spread = np.random.default_rng(0)
        for y, values in enumerate(repeats):
            offsets = y + spread.uniform(-0.25, 0.25, len(values))
            axes.plot(values, offsets, ".", color=_ONE, markersize=4, alpha=0.6)
        for key, style in (("p5_ms", ":"), ("median_ms", "-"), ("p90_ms", "--"), ("p95_ms", ":")):
            axes.axvline(statistics[key], color=_INK, linewidth=1.2, linestyle=style)
        _name_rows(axes, [f"repeat {number}" for number in range(1, len(repeats) + 1)])
        axes.set_xlabel("ms; lines: 5th percentile, median, 90th, 95th")

    label = f"Every timed inference of {name}, a row per repeat, with lines at the percentiles."
    return plot(label, _height(repeats), draw)


def sensitivity(recipe: str, rows: Sequence[Mapping[str, Any]]) -> Markup:
    """The share of the noise of an all-int8 network that each tensor makes alone."""

    def draw(axes: Axes) -> None:
        colours = {"weight": _ONE, "activation": _TWO}
        axes.barh(
            range(len(rows)),
            [100 * row["noise_share"] for row in rows],
            color=[colours[row["kind"]] for row in rows],
        )
        _name_rows(axes, [str(row["name"]) for row in rows])
        axes.set_xlabel("% of the noise of all tensors in int8")

    label = (
        f"The tensors of {recipe} that cost most in int8, by the noise that each makes alone; the "
        "table beside it lists the same."
    )
    return plot(label, _height(rows), draw)


def _height(rows: Sequence[object]) -> float:
    return 0.55 + 0.24 * len(rows)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """The first row on top."""
    axes.set_yticks(range(len(names)), labels=list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
