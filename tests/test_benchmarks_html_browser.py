"""The report page in a headless browser, as a person uses it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select
from selenium.webdriver.support.wait import WebDriverWait

from benchmarks.html_report import write_pages
from dfnet.captureset import CaptureSet
from dfnet.model import DFNet

from browsing import DESKTOP, PHONE, browser, complaints, look, open_page, require_browser, script
from fakes import FakeRuntime, use_fake_runtime
from judged_files import write_judged, write_times
from report_screenshots import LARGEST, take

pytestmark = pytest.mark.browser

_OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
_BROKEN = (
    "return [...document.querySelectorAll('img[src]')]"
    ".filter(i => i.complete && !i.naturalWidth).length"
)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page is kept that all tests look at."""
    require_browser()
    return tmp_path_factory.mktemp("page")


@pytest.fixture
def page(
    shelf: Path,
    tiny_network: DFNet,
    make_capture_set: Callable[..., CaptureSet],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    path = shelf / "android" / "report.html"
    if not path.exists():
        use_fake_runtime(monkeypatch)
        monkeypatch.setattr(FakeRuntime, "error_db", 35.0)
        artifacts = write_judged(shelf, tiny_network, make_capture_set)
        write_times(shelf, artifacts, (1.0, 0.5))
        assert write_pages(shelf, artifacts) == (path,)
    return path


@pytest.fixture(scope="module")
def window(shelf: Path) -> Iterator[webdriver.Chrome]:
    with browser() as driver:
        yield driver


@pytest.fixture
def driver(window: webdriver.Chrome, page: Path) -> Iterator[webdriver.Chrome]:
    """A browser at the page; whatever a test does there, nothing may complain."""
    look(window, DESKTOP)
    open_page(window, page)
    yield window
    assert complaints(window) == []
    assert script(window, _BROKEN) == 0


def seen(element: WebElement) -> npt.NDArray[np.uint8]:
    """Its pixels, scrolled to one place first: screenshots differ by where the page stood."""
    element.parent.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    with Pillow.open(io.BytesIO(element.screenshot_as_png)) as shot:
        return np.asarray(shot.convert("RGB"))


def difference(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(int) - other).mean())


def one(driver: webdriver.Chrome, css: str) -> WebElement:
    return driver.find_element(By.CSS_SELECTOR, f"details[open] .exhibit:not([hidden]) {css}")


def test_the_slider_is_moved_by_keys_and_by_pointer(driver: webdriver.Chrome) -> None:
    stage, slider = one(driver, ".compare .stage"), one(driver, ".compare input[type=range]")
    middle = seen(stage)
    slider.send_keys(Keys.ARROW_RIGHT)
    assert slider.get_attribute("value") == "51"
    slider.send_keys(Keys.HOME)
    ends = {"right": seen(stage)}
    slider.send_keys(Keys.END)
    ends["left"] = seen(stage)
    assert "100 % of W (input)" in str(slider.get_attribute("aria-valuetext"))
    assert difference(ends["left"], ends["right"]) > 1
    assert difference(middle, ends["right"]) > 0.5
    quarter = -stage.size["width"] // 4
    ActionChains(driver).move_to_element_with_offset(stage, quarter, 0).click().perform()
    assert slider.get_attribute("value") == "25"
    right = np.s_[:, stage.size["width"] // 2 :]

    def shows_the_right_picture(_: webdriver.Chrome) -> bool:
        off = {name: difference(seen(stage)[right], whole[right]) for name, whole in ends.items()}
        return off["right"] < off["left"] / 2

    # A busy machine may paint after the value has changed.
    WebDriverWait(driver, 10).until(shows_the_right_picture)


def test_either_side_shows_any_picture(driver: webdriver.Chrome) -> None:
    stage = one(driver, ".compare .stage")
    shown = []
    for role in ("W (input)", "float network", "truth"):
        Select(one(driver, "select[name=left]")).select_by_visible_text(role)
        assert stage.find_element(By.CSS_SELECTOR, ".tag.left").text == role
        image = stage.find_element(By.CSS_SELECTOR, "img.left")
        assert str(image.get_attribute("alt")).endswith(role)
        shown.append(image.get_attribute("src"))
    assert len(set(shown)) == 3
    Select(one(driver, "select[name=right]")).select_by_visible_text("truth")
    assert stage.find_element(By.CSS_SELECTOR, "img.right").get_attribute("src") == shown[-1]


def test_error_maps_can_be_amplified_and_the_scale_follows(driver: webdriver.Chrome) -> None:
    chosen = Select(one(driver, "select[name=heat]"))
    found = set()
    for index in range(len(chosen.options)):
        chosen.select_by_index(index)
        gain = re.findall(r"\d+$", chosen.first_selected_option.text)[0]
        assert one(driver, ".legend .most").text == f"+1/{gain}"
        found.add(one(driver, ".heat img").get_attribute("src"))
    assert len(found) == len(chosen.options)


def test_captures_are_chosen_by_keyboard(driver: webdriver.Chrome) -> None:
    before = one(driver, ".compare img.left").get_attribute("alt")
    picks = driver.find_elements(By.CSS_SELECTOR, "details[open] .picks input")
    picks[0].send_keys(Keys.ARROW_RIGHT)
    assert picks[1].is_selected()
    after = one(driver, ".compare img.left")
    assert after.get_attribute("alt") != before
    assert str(after.get_attribute("src")).startswith("data:image/webp")


def test_a_link_opens_the_file_it_leads_to(driver: webdriver.Chrome) -> None:
    closed = driver.find_element(By.CSS_SELECTOR, "details.file:not([open])")
    anchor = closed.get_attribute("id")
    driver.find_element(By.CSS_SELECTOR, f"[data-table=files] a[href='#{anchor}']").click()
    assert closed.get_attribute("open")
    assert closed.find_element(By.CSS_SELECTOR, ".compare img.left").get_attribute("src")


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_overflows_at_either_width(
    driver: webdriver.Chrome, page: Path, dark: bool
) -> None:
    for size in (DESKTOP, PHONE, (320, 640)):
        look(driver, size, dark=dark)
        open_page(driver, page)
        script(driver, "document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert script(driver, _OVERFLOW) == 0
    colour = script(driver, "return getComputedStyle(document.body).backgroundColor")
    red, green, blue = map(int, re.findall(r"\d+", colour)[:3])
    assert (red + green + blue < 150) == dark


def test_every_control_can_be_reached_by_tab_and_shows_it(driver: webdriver.Chrome) -> None:
    reached = set()
    for _ in range(45):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        focused = driver.switch_to.active_element
        kind = focused.get_attribute("type") or focused.tag_name
        reached.add(kind)
        style = focused.value_of_css_property("outline-style")
        assert style != "none" or kind in ("radio", "body")
    assert {"a", "summary", "radio", "range", "select-one"} <= reached


def test_screenshots_are_taken_in_both_widths_and_schemes(page: Path, tmp_path: Path) -> None:
    taken = take(page, tmp_path / "shots")
    pairs = [f"{size}-{scheme}" for size in ("desktop", "phone") for scheme in ("light", "dark")]
    assert [path.stem for path in taken] == [*pairs, "sensitivity"]
    brightness = []
    for path in taken:
        assert path.stat().st_size < LARGEST
        with Pillow.open(path) as shot:
            brightness.append(np.asarray(shot.convert("L")).mean())
    assert brightness[0] > brightness[1]
    assert brightness[2] > brightness[3]
