"""Heatmaps and the album of a report page."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from benchmarks.html_pictures import gradient, heatmap
from benchmarks.html_plots import drops, samples


def colours(errors: list[float], gain: int) -> list[list[int]]:
    with Pillow.open(io.BytesIO(heatmap(np.array([errors]), gain))) as picture:
        assert picture.size == (len(errors), 1)
        found: list[list[int]] = np.asarray(picture.convert("RGB"))[0].astype(int).tolist()
        return found


def test_too_dark_is_blue_and_too_bright_is_red() -> None:
    (dark, none, bright) = colours([-0.05, 0.0, 0.05], 16)
    assert dark[2] > dark[0] + 50
    assert bright[0] > bright[2] + 50
    assert min(none) > 240


@pytest.mark.parametrize("gain", [16, 128])
def test_full_colour_stands_at_one_over_the_gain(gain: int) -> None:
    full, beyond, half = colours([1 / gain, 1.0, 0.5 / gain], gain)
    assert full == beyond
    assert half != full


def test_errors_of_either_sign_get_equally_strong_colours() -> None:
    steps = [value / 160 for value in range(-10, 11)]
    shown = [sum(colour) for colour in colours(steps, 16)]
    assert shown[10] == max(shown)
    assert shown[:11] == sorted(shown[:11])
    assert shown[10:] == sorted(shown[10:], reverse=True)


def test_the_scale_shows_the_colours_of_the_map() -> None:
    ends = gradient().split(", ")
    assert [f"rgb({r} {g} {b})" for r, g, b in colours([-1, 1], 16)] == [ends[0], ends[-1]]


def test_plots_take_the_page_s_colours_and_any_name() -> None:
    names = ("<b>$x$</b>", "a & b")
    text = drops([(name, [0.1, -0.2], 0.3) for name in names])
    assert "currentColor" in text
    assert "var(--one)" in text
    assert "#0101" not in text
    assert "<b>" not in text
    assert "&lt;b&gt;$x$&lt;/b&gt;" in text
    assert "<style" not in text


def test_a_plot_s_name_is_escaped() -> None:
    figures = dict.fromkeys(("p5_ms", "median_ms", "p90_ms", "p95_ms"), 1.0)
    assert 'x" onload="' not in samples('x" onload="', [[1.0, 2.0]], figures)


def schemes() -> dict[str, dict[str, str]]:
    """The page's colours by name, light and dark."""
    text = Path("benchmarks/templates/report.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", text, flags=re.DOTALL)[:2]
    found = {"light": dict(re.findall(r"--([\w-]+): (#\w{6});", light))}
    found["dark"] = {**found["light"], **dict(re.findall(r"--([\w-]+): (#\w{6});", dark))}
    return found


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground", "least"),
    [
        *((ink, ground, 4.5) for ink in ("ink", "soft", "link") for ground in ("page", "card")),
        *((kind, f"{kind}-bg", 4.5) for kind in ("ship", "fail", "open")),
        *((kind, "page", 4.5) for kind in ("ship", "fail", "open")),
        *((line, "page", 3.0) for line in ("one", "two", "bad", "focus")),
        ("focus", "card", 3.0),
    ],
)
def test_contrast_keeps_wcag_aa(scheme: str, text: str, ground: str, least: float) -> None:
    colours = schemes()[scheme]
    dark, bright = sorted((luminance(colours[text]), luminance(colours[ground])))
    assert (bright + 0.05) / (dark + 0.05) >= least
