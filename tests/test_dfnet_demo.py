from __future__ import annotations

import io
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from dfnet.capture import Capture
from dfnet.demo_scene import SCENES, demo_capture, kept_demo_capture
from dfnet.demo_server import DemoServer
from dfnet.exported import find_artifact, opened
from dfnet.model import DFNet
from dfnet.profiles import Resolution

from browsing import PHONE, browser, complaints, look, require_browser, script
from fake_artifacts import write_artifact
from fakes import use_fake_runtime


@pytest.fixture
def server(
    tmp_path: Path,
    tiny_network: DFNet,
    make_capture: Callable[..., Capture],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[DemoServer]:
    use_fake_runtime(monkeypatch)
    artifact = write_artifact(tmp_path, tiny_network)
    with (
        opened(artifact, threads=1) as runner,
        DemoServer(0, runner, artifact, make_capture(0)) as server,
    ):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def get(server: DemoServer, path: str, host: str | None = None) -> tuple[int, bytes]:
    headers = {"Host": host} if host else {}
    request = urllib.request.Request(server.url + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def pixels(body: bytes) -> npt.NDArray[np.float64]:
    return np.asarray(Pillow.open(io.BytesIO(body)), np.float64)


def test_pictures_follow_the_query(server: DemoServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    pictures = [
        get(server, f"picture?{query}")
        for query in ("focus_at=3,4", "focus_at=60,4", "focus_at=3,4&f_stop=8", "tilt_shift=9,4")
    ]
    assert {status for status, _ in pictures} == {200}
    assert len({body for _, body in pictures}) == 4
    assert {pixels(body).shape for _, body in pictures} == {(64, 64, 3)}
    assert b"fake-cpu-fp32-64x64" in get(server, "about")[1]


@pytest.mark.parametrize(
    "query",
    ["", "focus_at=a,b", "focus_at=1", "focus_at=64,0", "f_stop=nan", "f_stop=-1", "colour=red",
     "f_stop=2&f_stop=3", "target=blurry", "target=all-in-focus&focus_at=1,1"],
)  # fmt: skip
def test_a_bad_query_is_a_400_and_one_sentence(server: DemoServer, query: str) -> None:
    status, body = get(server, f"picture?{query}")
    assert status == 400
    assert len(body.decode().splitlines()) == 1


def test_nothing_else_is_served(server: DemoServer) -> None:
    for path in ("../pyproject.toml", "%2e%2e/pyproject.toml", "demo.js/../../wish.py", "x"):
        assert get(server, path)[0] == 404
    assert get(server, "wide.png", host="evil.example")[0] == 403


def test_the_demos_scene_fills_the_frame_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = kept_demo_capture(tmp_path, Resolution(64, 96))
    assert one.wide.shape == (1, 3, 64, 96)
    assert np.array_equal(one.wide, demo_capture(Resolution(64, 96)).wide)
    monkeypatch.setattr("dfnet.demo_scene.demo_capture", None)
    assert np.array_equal(one.wide, kept_demo_capture(tmp_path, Resolution(64, 96)).wide)
    assert one.inverse_depth is not None
    assert np.ptp(one.inverse_depth) > 0


@pytest.mark.browser
def test_a_click_and_the_keyboard_refocus_in_a_browser(server: DemoServer) -> None:
    require_browser()
    with browser() as driver:
        look(driver, PHONE)
        driver.get(server.url)

        def settled(words: str) -> str:
            WebDriverWait(driver, 30).until(
                lambda d: d.find_element(By.ID, "status").text.startswith(words)
            )
            return str(driver.find_element(By.ID, "picture").get_attribute("src"))

        before = settled("As captured")
        frame = driver.find_element(By.ID, "frame")
        ActionChains(driver).move_to_element_with_offset(frame, 100, 20).click().perform()
        clicked = settled("focus at")
        assert clicked != before
        frame.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ENTER)
        WebDriverWait(driver, 30).until(lambda _: settled("focus at") != clicked)
        driver.find_element(By.ID, "all").click()
        settled("all in focus")
        driver.find_element(By.ID, "tilt").click()
        settled("tilt-shift")
        wider = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert script(driver, wider) is False
        assert complaints(driver) == []


@pytest.mark.litert
@pytest.mark.slow
def test_the_shipped_int8_file_makes_what_is_clicked_sharper() -> None:
    folders = sorted(Path("artifacts/android").glob("litert-xnnpack-int8-768x1024-*"))
    if not folders:
        pytest.skip("needs an exported file: make export-android")
    artifact = find_artifact(folders[0])
    capture = kept_demo_capture(SCENES, artifact.manifest.resolution)
    x, y = 780, 590
    with opened(artifact, threads=2) as runner, DemoServer(0, runner, artifact, capture) as server:
        before = _sharpness(pixels(server.wide), x, y)
        clicked = _sharpness(pixels(server.refocused(f"focus_at={x},{y}")), x, y)
        assert clicked > 1.5 * before
        blurred = _sharpness(pixels(server.refocused("focus_at=140,490")), x, y)
        assert blurred < 1.2 * before


def _sharpness(picture: npt.NDArray[np.float64], x: int, y: int) -> float:
    """Mean step between neighbours in the 80x80 pixels around (x, y)."""
    part = picture[y - 40 : y + 40, x - 40 : x + 40]
    return float(np.abs(np.diff(part, axis=0)).mean() + np.abs(np.diff(part, axis=1)).mean())
