"""The README's tables come from docs/results.json and nowhere else."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.readme import END, START, render, update
from benchmarks.sensitivity_table import SHOWN, render_sensitivity
from dfnet.checkpoint import load_checkpoint
from dfnet.errors import ArtifactError

README, RESULTS = Path("README.md"), Path("docs/results.json")
CHECKPOINT = Path("data/checkpoints/reference.safetensors")


@pytest.mark.parametrize(
    ("page", "results", "layout"),
    [
        (README, RESULTS, "files"),
        (Path("docs/quantization.md"), Path("docs/quantization.json"), "steps"),
        (Path("docs/photos.md"), Path("docs/photo.json"), "photos"),
        (Path("docs/performance.md"), Path("docs/performance.json"), "peers"),
        (Path("docs/bundles.md"), Path("docs/bundles.json"), "bundles"),
        (Path("docs/sensitivity.md"), Path("docs/sensitivity.json"), "sensitivity"),
    ],
)
def test_a_page_shows_the_committed_results(
    page: Path, results: Path, layout: str, tmp_path: Path
) -> None:
    copy = tmp_path / "page.md"
    shutil.copy(page, copy)
    assert not update(copy, results, layout=layout), "run `python -m benchmarks readme`"
    assert copy.read_text() == page.read_text()


def test_a_number_typed_by_hand_is_noticed_and_replaced(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    copy.write_text(README.read_text().replace("| passed |", "| perfect |", 1))
    assert update(copy, RESULTS)
    assert copy.read_text() == README.read_text()


def test_the_shown_study_is_of_the_shipped_checkpoint_and_its_noisiest_come_first() -> None:
    study = json.loads(Path("docs/sensitivity.json").read_text())
    assert study["identity"]["checkpoint_sha256"] == load_checkpoint(CHECKPOINT).sha256
    noises = [row["alone"]["noise"] for row in study["rows"]]
    assert noises == sorted(noises, reverse=True)
    lines = [line for line in render_sensitivity([study]).splitlines() if line.startswith("| `")]
    assert len(lines) == SHOWN
    assert lines[0].split("`")[1] == study["rows"][0]["name"]


FIGURES = ("psnr_db", "residual_snr_db", "drop_db", "worst_drop_db", "gain_kept")


def rendered(**changes: object) -> list[str]:
    """The cells of the committed results' first row with ``changes``."""
    row = json.loads(RESULTS.read_text())[0] | {"recipe": "fp32"} | changes
    return [cell.strip() for cell in render([row]).splitlines()[-1].strip("|").split("|")]


def test_what_was_not_run_shows_no_number() -> None:
    nothing = dict.fromkeys((*FIGURES, "device", "device_kind", "median_ms", "latency_ratio"))
    cells = rendered(verdict="not run", reason="needs macOS", splits={}, **nothing)
    assert cells[-1] == "not run (needs macOS)"
    assert not any("dB" in cell or "%" in cell for cell in cells)


def test_the_evaluator_is_named_as_the_judge_and_has_no_latency() -> None:
    cells = rendered(
        device="reference evaluator, declared arithmetic",
        device_kind="evaluator",
        median_ms=None,
        latency_ratio=None,
        latency_reason="not run (needs macOS)",
        runner=None,
    )
    assert cells[3] == "reference evaluator"
    assert cells[-2] == "not run (needs macOS)"


def test_a_phone_is_named_with_its_time() -> None:
    cells = rendered(
        device="iPhone 14 Pro",
        device_kind="device",
        accelerator="cpu+neural_engine",
        runner="dfnet-latency-coreml 1.0",
        median_ms=9.81,
        latency_ratio=0.61,
        latency_validity="VALID",
        verdict="not run",
        reason="outputs were not compared on this device",
    )
    assert (cells[3], cells[-2]) == ("", "iPhone 14 Pro (cpu, neural engine): 9.8 ms, 0.61")


def test_a_device_whose_outputs_were_compared_judged_them() -> None:
    cells = rendered(
        device="QEMU emulated arm64",
        device_kind="emulator",
        runner="litert_runner 1",
        median_ms=None,
        latency_reason="not run (an emulator has none)",
    )
    assert (cells[3], cells[-2]) == ("QEMU emulated arm64", "not run (an emulator has none)")


def test_rows_written_before_these_fields_are_the_hosts() -> None:
    row = json.loads(RESULTS.read_text())[0]
    for name in ("device_kind", "latency_reason", "runner", "accelerator"):
        row.pop(name, None)
    row |= {"device": "LiteRT, CPU", "median_ms": 1.0, "latency_ratio": 1.0}
    assert "| host |" in render([row])


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
