"""The README's tables come from docs/results.json and nowhere else."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.readme import END, START, render, update
from dfnet.errors import ArtifactError

README, RESULTS = Path("README.md"), Path("docs/results.json")


def test_the_readme_shows_the_committed_results(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    shutil.copy(README, copy)
    assert not update(copy, RESULTS), "run `python -m benchmarks readme`"
    assert copy.read_text() == README.read_text()


def test_a_number_typed_by_hand_is_noticed_and_replaced(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    copy.write_text(README.read_text().replace("| passed |", "| perfect |", 1))
    assert update(copy, RESULTS)
    assert copy.read_text() == README.read_text()


def test_what_was_not_run_shows_no_number() -> None:
    rows = json.loads(RESULTS.read_text())
    not_run = next(row for row in rows if row["verdict"] == "not run")
    line = next(x for x in render([not_run]).splitlines() if not_run["recipe"] in x)
    assert "not run (needs macOS)" in line
    assert "dB" not in line


@pytest.mark.parametrize(
    ("readme", "results", "message"),
    [
        ("no markers", "[{}]", "got no block"),
        (f"{START}\n{END}", "[]", "got no rows"),
        (f"{START}\n{END}", "{", "cannot be read"),
    ],
)
def test_what_cannot_be_rendered_is_one_sentence(
    tmp_path: Path, readme: str, results: str, message: str
) -> None:
    (tmp_path / "README.md").write_text(readme)
    (tmp_path / "results.json").write_text(results)
    with pytest.raises(ArtifactError, match=message):
        update(tmp_path / "README.md", tmp_path / "results.json")
    assert (tmp_path / "README.md").read_text() == readme
