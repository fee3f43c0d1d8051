"""README and docs: every command, option, make target and link in them exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from shown_commands import COMMAND, MAKE, ROOT, wrong_with

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def snippets(page: str) -> Iterator[str]:
    """Every line of code that could be a command: of blocks, continued lines joined, and spans."""
    page = re.sub(r"\\\n\s*", " ", page)
    for line in page.splitlines():
        yield re.sub(r"^\s*-? ?(run: )?", "", line)
    for span in re.findall(r"`([^`]+)`", page):
        yield " ".join(span.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    found = {snippet: wrong_with(snippet) for snippet in snippets(page.read_text())}
    assert {snippet: wrong for snippet, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    ("snippet", "words"),
    [
        ("make fly", "no make target fly"),
        ("make test SPEED=9", "no make variable SPEED"),
        (".venv/bin/python -m export --platfrom ios", "no option --platfrom"),
        ("python -m benchmarks judge", "no command judge"),
        ("python -m benchmarks latency --protocol slow", "no --protocol slow"),
        ("python -m export.nothing", "no module export.nothing"),
        ("python -m benchmarks compare --junit x.xml OLD NEW", None),
        ("make export-ios test   # both", None),
        ("python -m pip install anything", None),
    ],
)
def test_what_does_not_exist_is_noticed(snippet: str, words: str | None) -> None:
    wrong = wrong_with(snippet)
    assert (words is None and wrong is None) or (words is not None and words in str(wrong))


def test_the_readme_has_commands_to_check() -> None:
    found = list(snippets((ROOT / "README.md").read_text()))
    assert sum(bool(MAKE.match(one)) for one in found) >= 10
    assert sum(bool(COMMAND.match(one)) for one in found) >= 3


def broken_links(page: Path, text: str) -> list[str]:
    """Links to files that are not there, and to headings that their page does not have."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        slugs = _slugs(target) if heading and target.is_file() else set()
        if not target.exists() or (heading and heading not in slugs):
            broken.append(link)
    return broken


def _slugs(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


def test_a_broken_link_is_noticed() -> None:
    text = (
        "[a](docs/nowhere.md) [b](README.md#no-such) [c](docs/ci.md#github-actions) [d](http://x)"
    )
    assert broken_links(ROOT / "README.md", text) == ["docs/nowhere.md", "README.md#no-such"]


def test_the_readme_leads_to_every_page() -> None:
    """In one step or two."""
    linked = {ROOT / "README.md"}
    for _ in range(2):
        for page in [one for one in linked if one.suffix == ".md"]:
            for link in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
                linked.add((page.parent / link).resolve())
    pages = (ROOT / "docs").glob("*.md")
    assert [str(page) for page in pages if page not in linked] == []


def test_the_workflow_is_yaml_whose_commands_exist() -> None:
    text = (ROOT / "docs" / "ci.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    workflow = yaml.safe_load(block)
    runs = [step["run"] for step in workflow["jobs"]["export"]["steps"] if "run" in step]
    assert [run for run in runs if MAKE.match(run) or COMMAND.match(run)]
    assert {run: wrong_with(run) for run in runs if wrong_with(run)} == {}
