"""Headless Chromium for pages; skips where it is not installed, fails where it must be."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PHONE, DESKTOP = (390, 844), (1180, 900)
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")


def require_browser() -> None:
    """Skips the test, or fails it where CI installed the browser."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if missing and os.environ.get("BROWSER_TOOLS") == "installed":
        raise AssertionError(f"{', '.join(missing)} missing, although it was installed")
    if missing:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """A headless browser that keeps what pages write to their consoles."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def look(driver: webdriver.Chrome, size: tuple[int, int], *, dark: bool = False) -> None:
    """Makes the window ``size`` CSS pixels, as a phone's if narrow, and light or dark."""
    width, height = size
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    _command(driver, "Emulation.setEmulatedMedia", {"features": [scheme]})
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
    _command(
        driver, "Emulation.setDeviceMetricsOverride", {**metrics, "mobile": width < DESKTOP[0]}
    )


def screenshot(driver: webdriver.Chrome, top: float, height: float) -> bytes:
    """A PNG of the page's whole width from ``top`` on."""
    width = script(driver, "return document.documentElement.clientWidth")
    clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
    asked: dict[str, Any] = {"format": "png", "captureBeyondViewport": True, "clip": clip}
    return base64.b64decode(_command(driver, "Page.captureScreenshot", asked)["data"])


def script(driver: webdriver.Chrome, text: str) -> Any:
    """What a script gives in the page."""
    return driver.execute_script(text)  # type: ignore[no-untyped-call]


def _command(driver: webdriver.Chrome, name: str, arguments: dict[str, Any]) -> Any:
    """One of Chromium's own developer commands."""
    return driver.execute_cdp_cmd(name, arguments)


def open_page(driver: webdriver.Chrome, path: Path) -> None:
    """Opens a page from disk, anew."""
    driver.get("about:blank")
    driver.get(path.resolve().as_uri())


def complaints(driver: webdriver.Chrome) -> list[Any]:
    """What the page wrote to its console since this was last asked."""
    found: list[Any] = driver.get_log("browser")  # type: ignore[no-untyped-call]
    return found
