"""Screenshots of a report page: desktop and phone width, light and dark.

    .venv/bin/python tests/report_screenshots.py artifacts/android/report.html docs/report

Light ones show the top of the page, dark ones the last exhibit of the file that is open at first.
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


def take(page: Path, folder: Path) -> list[Path]:
    """Writes four JPEGs of ``page`` into ``folder``; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as driver:
        return [
            _take(driver, page, folder, name, size, dark=dark)
            for name, size in (("desktop", DESKTOP), ("phone", PHONE))
            for dark in (False, True)
        ]


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
