"""The report page: its numbers are those of the results, and what is not known is said."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.device_parity import DeviceParity, Figures, keep
from benchmarks.device_protocol import DeviceFacts, RunnerFacts
from benchmarks.exhibits import exhibits_of, pictures_folder
from benchmarks.html_report import read_results, render, write_pages
from benchmarks.results import checks_path, read_checks
from benchmarks.selection import read_artifacts
from dfnet.artifact import Artifact, write_manifest
from dfnet.captureset import CaptureSet
from dfnet.manifest import Manifest
from dfnet.model import DFNet

from fake_artifacts import CHECKPOINT_SHA256
from fakes import use_fake_runtime
from judged_files import write_judged, write_times

MakeSet = Callable[..., CaptureSet]
LARGEST_PAGE = 15_000_000
TIMES, MINUS = "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}"


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    artifact: str | None
    text: str = ""


@dataclass
class Page(HTMLParser):
    """The elements of a page in order; ``artifact`` is the sha256 of the one they speak of."""

    source: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[Element] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        outer = self._open[-1].artifact if self._open else None
        element = Element(tag, attributes, attributes.get("data-artifact", outer))
        self.elements.append(element)
        if tag not in ("meta", "link", "img", "input", "br"):
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str | None = None, **attributes: str) -> list[Element]:
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [
            one
            for one in self.elements
            if tag in (None, one.tag) and all(one.attributes.get(n) == v for n, v in wanted.items())
        ]

    @property
    def text(self) -> str:
        return " ".join(self.all("body")[0].text.split())

    @property
    def pictures(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.all("script", id="pictures")[0].text)
        return found


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the judged files are kept that all tests copy."""
    return tmp_path_factory.mktemp("judged") / "out"


@pytest.fixture
def output(
    shelf: Path,
    tmp_path: Path,
    tiny_network: DFNet,
    make_capture_set: MakeSet,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    use_fake_runtime(monkeypatch)
    if not shelf.exists():
        artifacts = write_judged(shelf, tiny_network, make_capture_set)
        write_times(shelf, artifacts, (1.0, 0.5))
    shutil.copytree(shelf, tmp_path / "out")
    return tmp_path / "out"


def page_of(output: Path, **options: Any) -> Page:
    return Page(render(output, "android", read_results(output, read_artifacts(output)), **options))


@pytest.fixture(scope="module")
def drawn() -> dict[str, Page]:
    """Keeps the page of the files as they were judged."""
    return {}


@pytest.fixture
def page(output: Path, drawn: dict[str, Page]) -> Page:
    """The page of the files as they were judged."""
    if not drawn:
        drawn["page"] = page_of(output)
    return drawn["page"]


def measured(output: Path) -> dict[str, dict[str, Any]]:
    """What the JSON files on disk say, by artifact."""
    results = read_results(output, read_artifacts(output))
    rows = {row.artifact: row.to_json() for row in results.rows if row.runner is None}
    (times,) = (output / "results").glob("*.latency.json")
    latencies = json.loads(times.read_text())["results"]
    return {
        artifact.manifest.artifact_sha256: {
            "row": rows[artifact.id],
            "manifest": json.loads((artifact.folder / "manifest.json").read_text()),
            "checks": json.loads(checks_path(output / "results", artifact).read_text()),
            "latencies": [latencies[artifact.manifest.artifact_sha256]],
            "devices": [],
        }
        for artifact in results.artifacts
    }


def look_up(data: Any, path: str) -> Any:
    for part in path.split("."):
        data = data[int(part)] if isinstance(data, list) else data.get(part)
    return data


def edit_checks(output: Path, recipe: str, change: Callable[[dict[str, Any]], None]) -> None:
    (artifact,) = (a for a in read_artifacts(output) if a.manifest.recipe["name"] == recipe)
    path = checks_path(output / "results", artifact)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def fail(data: dict[str, Any]) -> None:
    data["verdicts"]["quality"] = {"outcome": "failed", "reasons": ["drop_db 0.7 dB, needed less"]}


def unmeasured(data: dict[str, Any]) -> None:
    outcome = {"outcome": "not run", "reasons": ["needs macOS"]}
    data |= {"verdicts": {"parity": outcome, "quality": outcome}, "device": None}
    data |= {"executions": [], "figures": {}, "splits": {}, "details": {}}


def test_every_number_is_the_one_in_the_results(output: Path, page: Page) -> None:
    known = measured(output)
    shown = [one for one in page.all("data") if "data-path" in one.attributes]
    assert len(shown) > 180
    for one in shown:
        assert one.artifact is not None
        expected = look_up(known[one.artifact], one.attributes["data-path"])
        assert float(one.attributes["value"]) == expected
        assert_reads(one.text, expected)


def assert_reads(text: str, value: float) -> None:
    """The text is the value, rounded to the digits it shows, in one of the page's units."""
    number, unit = re.fullmatch(rf"([^\s%{TIMES}]+)\s?(.*)", text).groups()  # type: ignore[union-attr]
    number = number.replace(MINUS, "-")
    scale = {"%": 100, "MB": 1e-6}.get(unit, 1)
    mantissa, _, exponent = number.partition("e")
    digits = len(mantissa.partition(".")[2]) - int(exponent or 0)
    assert abs(float(number) - value * scale) <= 0.500001 * 10**-digits


def test_what_is_not_known_is_not_run_and_never_a_number(output: Path) -> None:
    edit_checks(output, "int8", unmeasured)
    page = page_of(output)
    nothing = [one for one in page.all("span") if one.attributes.get("class") == "none"]
    known = measured(output)
    assert nothing
    for one in nothing:
        assert one.artifact is not None
        assert one.text == "not run"
        assert look_up(known[one.artifact], one.attributes["data-path"]) is None
    assert "needs macOS" in page.text
    assert not re.search(r"\b(nan|inf|None)\b", page.all("main")[0].text)


def ships(page: Page) -> tuple[str, list[str]]:
    """The decision on all files, and on each; every place that tells one must tell the same."""
    overall = page.all("strong")[0].attributes["data-overall"]
    badges = [one for one in page.all("span") if "data-ship" in one.attributes]
    told = [(one.artifact, one.attributes["data-ship"]) for one in badges]
    assert len(set(told)) == len({artifact for artifact, _ in told})
    return overall, list(dict(told).values())


def test_files_that_passed_may_be_shipped(page: Page) -> None:
    assert ships(page) == ("ship", ["ship", "ship"])
    assert "Ship: 2 of 2 files passed on this machine" in page.text
    assert "No phone has timed it" in page.text


def test_a_file_that_failed_must_not_be_shipped(output: Path) -> None:
    edit_checks(output, "int8", fail)
    page = page_of(output)
    assert ships(page) == ("do not ship", ["ship", "do not ship"])
    assert "Do not ship: 1 of 2 files" in page.text
    assert "drop_db 0.7 dB, needed less" in page.text
    (opened,) = (one for one in page.all("details") if "open" in one.attributes)
    assert opened.attributes["data-id"].startswith("fake-cpu-int8")


def test_what_was_not_run_is_not_shipped(output: Path) -> None:
    edit_checks(output, "int8", unmeasured)
    page = page_of(output)
    assert ships(page) == ("not verified", ["ship", "not verified"])
    (taken,) = (one for one in page.all("a") if "data-take" in one.attributes)
    assert taken.text == "fp32"


def test_a_file_that_was_never_judged_is_not_verified(output: Path) -> None:
    (judged,) = (output / "results").glob("*int8*.checks.json")
    judged.unlink()
    page = page_of(output)
    assert ships(page) == ("not verified", ["ship", "not verified"])
    assert "not verified yet: python -m benchmarks verify" in page.text


def test_the_fastest_that_passed_is_recommended(page: Page) -> None:
    (taken,) = (one for one in page.all("a") if "data-take" in one.attributes)
    assert taken.text == "int8"


def test_the_chain_shows_budgets_and_the_hops_that_were_not_run(page: Page) -> None:
    section = next(
        one for one in page.all("details") if "int8" in one.attributes.get("data-id", "")
    )
    text = " ".join(section.text.split())
    assert "fused → int8 graph" in text
    assert re.search(r"mean PSNR [0-9.]+\sdB, budget ≥ 45 dB", text)
    assert re.search(rf"largest difference [0-9.e{MINUS}]+, budget ≤ 1e{MINUS}5", text)
    assert "make bench-android DEVICE=emulator" in text


def on_a_phone(output: Path, recipe: str, error: float) -> None:
    """Keeps a comparison of a file on a phone, off by ``error``."""
    (artifact,) = (a for a in read_artifacts(output) if a.manifest.recipe["name"] == recipe)
    found = DeviceParity(
        schema=1,
        artifact_sha256=artifact.manifest.artifact_sha256,
        device=DeviceFacts("device", "Pixel 8", None, "Android", "15", None),
        runner=RunnerFacts("runner", "1", "arm64-v8a", None),
        accelerator="XNNPACK",
        threads=2,
        figures=Figures(error, 0.5 if error else 0.0, 60.0 if error else 200.0),
        error=None,
        insn_proxy=None,
    )
    keep(output / "results", artifact, found)


def test_a_phone_s_outputs_are_the_last_hop(output: Path) -> None:
    on_a_phone(output, "fp32", 0.0)
    page = page_of(output)
    assert ships(page)[0] == "ship"
    assert "Pixel 8" in page.text
    hops = [one.text for one in page.all("li") if "Pixel 8" in one.text]
    assert ["passed" in hop and "largest difference" in hop for hop in hops] == [True]


def test_a_phone_that_computes_something_else_forbids_shipping(output: Path) -> None:
    on_a_phone(output, "fp32", 0.25)
    page = page_of(output)
    assert ships(page) == ("do not ship", ["do not ship", "ship"])
    assert "on Pixel 8: max_abs 0.25" in page.text


def first_exhibit(output: Path) -> tuple[Path, Any]:
    artifact = read_artifacts(output)[0]
    checks = read_checks(checks_path(output / "results", artifact))
    assert checks is not None
    folder = pictures_folder(output / "results", artifact.manifest)
    return folder, exhibits_of(checks.details)[0]


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_a_picture_that_is_missing_or_another_is_said_and_not_shown(
    output: Path, damage: str
) -> None:
    before = page_of(output)
    folder, exhibit = first_exhibit(output)
    path = folder / exhibit.pictures["error-float"].file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes((folder / exhibit.pictures["error-truth"].file).read_bytes())
    page = page_of(output)
    said = {
        "missing": f"Picture missing: {path.name} cannot be read",
        "altered": f"Picture missing: {path.name} is not the picture that was judged",
    }[damage]
    assert said in page.text
    count = len([one for one in page.all("div") if one.attributes.get("class") == "compare"])
    whole = len([one for one in before.all("div") if one.attributes.get("class") == "compare"])
    assert count == whole - 1


@pytest.mark.parametrize(
    "change",
    [
        lambda details: details.pop("exhibits"),
        lambda details: details["exhibits"][0].update(unknown=1),
        lambda details: details["exhibits"][0]["pictures"].update(wide="a name"),
    ],
)
def test_results_without_pictures_say_so(output: Path, change: Callable[[Any], object]) -> None:
    def damage(data: dict[str, Any]) -> None:
        change(data["details"])

    edit_checks(output, "fp32", damage)
    assert "No pictures were kept with this file's results" in page_of(output).text


def test_pictures_stay_within_their_bound_and_what_is_left_out_is_said(output: Path) -> None:
    whole = page_of(output)
    page = page_of(output, budget=sum(map(len, whole.pictures.values())) * 3 // 4 - 1000)
    assert 0 < len(page.pictures) < len(whole.pictures)
    assert "left out: the page holds at most" in page.text
    assert len(whole.source) < LARGEST_PAGE


def test_every_picture_on_the_page_is_embedded_and_described(page: Page) -> None:
    images = page.all("img")
    assert images
    for image in images:
        assert image.attributes["data-picture"] in page.pictures
        assert image.attributes["alt"]
    options = page.all("option")
    assert {one.attributes["value"] for one in options} <= page.pictures.keys()
    assert all(url.startswith("data:image/") for url in page.pictures.values())


def test_nothing_is_fetched(page: Page) -> None:
    links = [
        one.attributes[name]
        for one in page.elements
        for name in ("src", "href", "xlink:href")
        if name in one.attributes
    ]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "default-src 'none'" in page.source
    assert "url(http" not in page.source


def test_links_lead_somewhere_and_ids_are_unique(page: Page) -> None:
    ids = [one.attributes["id"] for one in page.elements if "id" in one.attributes]
    plain = [id_ for id_ in ids if not re.fullmatch("[mpC][0-9a-f_]+", id_)]
    assert len(plain) == len(set(plain))
    for one in page.all("a"):
        assert one.attributes["href"][1:] in ids


def test_headings_do_not_skip_a_level(page: Page) -> None:
    levels = [int(one.tag[1]) for one in page.elements if re.fullmatch("h[1-6]", one.tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def with_manifest(artifact: Artifact, **changes: Any) -> None:
    manifest: Manifest = replace(artifact.manifest, **changes)
    write_manifest(artifact.folder, manifest)


def test_hostile_names_are_text(output: Path) -> None:
    hostile = "<script>alert('x')</script>\" onload=$y$ {{ 7 * 7 }}"
    for artifact in read_artifacts(output):
        with_manifest(artifact, notes=(hostile,), tool_versions={hostile: hostile})

    def poison(data: dict[str, Any]) -> None:
        fail(data)
        data["verdicts"]["quality"]["reasons"] = [hostile]
        data["executions"][0]["device"]["name"] = hostile
        data["details"]["exhibits"][0]["capture"] = hostile
        data["details"]["exhibits"][0]["target"] = hostile
        data["details"]["quality"]["tiles"][0]["capture"] = hostile

    edit_checks(output, "int8", poison)
    plain, page = 2, page_of(output)
    assert len(page.all("script")) == plain
    assert not any("onload" in one.attributes for one in page.elements)
    assert hostile in page.source.replace("&lt;", "<").replace("&gt;", ">").replace(
        "&#39;", "'"
    ).replace("&#34;", '"')


def study(output: Path, checkpoint: str) -> None:
    row = {"name": "encoder.<0>", "kind": "weight", "noise_share": 0.25}
    folder = output / "sensitivity"
    folder.mkdir(exist_ok=True)
    data = {"identity": {"checkpoint_sha256": checkpoint}, "rows": [row]}
    (folder / "sensitivity-int8.json").write_text(json.dumps(data))


def test_a_sensitivity_study_is_drawn_only_of_the_same_checkpoint(output: Path) -> None:
    assert "python -m quantize sensitivity --recipe int8" in page_of(output).text
    study(output, "d" * 64)
    assert "the study is of checkpoint dddddddddddd" in page_of(output).text
    study(output, CHECKPOINT_SHA256)
    page = page_of(output)
    assert "the 1 noisiest of 1 tensors" in page.text
    assert "encoder.<0>" in page.text


def test_pages_are_written_whole_and_the_same_every_time(output: Path) -> None:
    artifacts = read_artifacts(output)
    (path,) = write_pages(output, artifacts)
    first = path.read_text()
    assert path == output / "android" / "report.html"
    assert first == write_pages(output, artifacts)[0].read_text()
    assert not list(path.parent.glob("*.part"))
