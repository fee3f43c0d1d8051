"""Screenshots of a report page: desktop and phone width, light and dark.

    .venv/bin/python tests/report_screenshots.py artifacts/android/report.html docs/report

Light ones show the top of the page, dark ones the last exhibit of the file that is open at first.
One more shows what int8 costs, as a desktop does, light.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image as Pillow
from selenium import webdriver

from browsing import DESKTOP, PHONE, browser, look, open_page, screenshot, script

LARGEST = 400_000
"""Most bytes of one screenshot."""

_HEIGHTS = {"desktop": 1400, "phone": 1500}
_MARGIN = 60
_QUALITIES = (90, 80, 70, 60)
_CHOOSE_LAST = "[...document.querySelectorAll('details.file[open] .picks input')].at(-1).click()"
_TOP = {
    name: f"return document.querySelector('details.file[open] {place}').getBoundingClientRect().top"
    for name, place in (("desktop", ".chain"), ("phone", ".exhibit:not([hidden])"))
}

_EDGE = "return document.querySelector('{}').getBoundingClientRect().top"
_SENSITIVITY = ("#sensitivity", "#details")
"""Headings of the section on a page, and of the one after it."""


def take(page: Path, folder: Path) -> list[Path]:
    """Writes five JPEGs of ``page`` into ``folder``; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as driver:
        taken = [
            _take(driver, page, folder, name, size, dark=dark)
            for name, size in (("desktop", DESKTOP), ("phone", PHONE))
            for dark in (False, True)
        ]
        return [*taken, _take_sensitivity(driver, page, folder)]


def _take(
    driver: webdriver.Chrome,
    page: Path,
    folder: Path,
    name: str,
    size: tuple[int, int],
    *,
    dark: bool,
) -> Path:
    look(driver, size, dark=dark)
    open_page(driver, page)
    top = 0.0
    if dark:
        script(driver, _CHOOSE_LAST)
        top = float(script(driver, _TOP[name])) - _MARGIN
    path = folder / f"{name}-{'dark' if dark else 'light'}.jpg"
    path.write_bytes(_compressed(screenshot(driver, top, _HEIGHTS[name])))
    return path


def _take_sensitivity(driver: webdriver.Chrome, page: Path, folder: Path) -> Path:
    look(driver, DESKTOP)
    open_page(driver, page)
    top, bottom = (float(script(driver, _EDGE.format(place))) for place in _SENSITIVITY)
    path = folder / "sensitivity.jpg"
    path.write_bytes(_compressed(screenshot(driver, top - _MARGIN / 2, bottom - top)))
    return path


def _compressed(png: bytes) -> bytes:
    """The best JPEG that keeps within ``LARGEST``."""
    for quality in _QUALITIES:
        stream = io.BytesIO()
        with Pillow.open(io.BytesIO(png)) as shot:
            shot.convert("RGB").save(stream, "JPEG", quality=quality, subsampling=0, optimize=True)
        if stream.tell() <= LARGEST:
            break
    return stream.getvalue()


if __name__ == "__main__":
    for taken in take(Path(sys.argv[1]), Path(sys.argv[2])):
        print(f"{taken}: {taken.stat().st_size} bytes")
