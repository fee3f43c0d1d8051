"""`make demo` as one command: the shipped checkpoint's int8 .tflite, used from a browser."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from browsing import browser, complaints, require_browser, script

ROOT = Path(__file__).resolve().parent.parent
SUBJECT = 780, 590
"""Pixel of something that the wide camera left out of focus in the demo's scene."""
_PIXELS = """
const picture = document.getElementById("picture"), canvas = document.createElement("canvas");
canvas.width = picture.naturalWidth; canvas.height = picture.naturalHeight;
canvas.getContext("2d").drawImage(picture, 0, 0);
return canvas.toDataURL("image/png").split(",")[1];
"""

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.litert]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The demo's address, and the file where its console goes."""
    require_browser()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    console = tmp_path_factory.mktemp("demo") / "console.txt"
    with console.open("wb") as stream:
        process = subprocess.Popen(
            ["make", "demo", f"ARGS=--no-browser --port {port}"],
            cwd=ROOT,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 900
        while "shows the demo" not in console.read_text():
            assert process.poll() is None, console.read_text()
            assert time.monotonic() < deadline, console.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/", console
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
    said = console.read_text()
    assert "Ended." in said
    assert "Traceback" not in said


def shown(driver: Chrome) -> npt.NDArray[np.float64]:
    """The page's picture as the browser decoded it."""
    data = base64.b64decode(str(script(driver, _PIXELS)))
    return np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"), np.float64)


def settled(driver: Chrome, words: str, *, other_than: str = "") -> str:
    """Waits for a status that starts with ``words``, and gives it."""

    def found(d: Chrome) -> str | bool:
        text = str(d.find_element(By.ID, "status").text)
        return text if text.startswith(words) and text != other_than else False

    return str(WebDriverWait(driver, 60).until(found))


def sharpness(picture: npt.NDArray[np.float64]) -> float:
    """Mean step between neighbours in the 80x80 pixels around the subject."""
    x, y = SUBJECT
    part = picture[y - 40 : y + 40, x - 40 : x + 40]
    return float(np.abs(np.diff(part, axis=0)).mean() + np.abs(np.diff(part, axis=1)).mean())


def test_a_click_sharpens_the_subject_through_the_int8_file(demo: tuple[str, Path]) -> None:
    address, _ = demo
    with browser() as driver:
        driver.set_window_size(1400, 1200)
        driver.get(address)
        settled(driver, "As captured")
        WebDriverWait(driver, 30).until(
            lambda d: "litert-xnnpack-int8-768x1024" in d.find_element(By.ID, "about").text
        )
        before = shown(driver)
        assert before.shape == (768, 1024, 3)

        frame = driver.find_element(By.ID, "frame")
        size = driver.find_element(By.ID, "picture").size
        across = (SUBJECT[0] / 1024 - 0.5) * size["width"]
        down = (SUBJECT[1] / 768 - 0.5) * size["height"]
        ActionChains(driver).move_to_element_with_offset(frame, across, down).click().perform()
        told = settled(driver, "focus at")
        clicked = shown(driver)
        assert sharpness(clicked) > 1.5 * sharpness(before)

        place = re.search(r"focus at (\d+,\d+), f/", told)
        assert place is not None, told
        stop = script(driver, "return fStop().toFixed(3)")
        query = f"picture?focus_at={place[1]}&f_stop={stop}"
        with urllib.request.urlopen(address + query, timeout=60) as answer:
            computed = np.asarray(Pillow.open(io.BytesIO(answer.read())).convert("RGB"), np.float64)
        assert np.array_equal(clicked, computed)

        slider = driver.find_element(By.ID, "stop")
        slider.send_keys(Keys.HOME)
        wide_open = settled(driver, "focus at", other_than=told)
        assert wide_open.endswith("f/0.7")
        assert np.abs(shown(driver) - clicked).mean() > 0.5
        assert complaints(driver) == []
