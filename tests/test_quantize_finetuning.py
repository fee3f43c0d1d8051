"""``make finetune-int8``: fine-tuned weights against rounded ones, and kept for export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import quantize.recipe
from dfnet.capture import Split
from dfnet.errors import CaptureError
from quantize.ptq import StaticProgram
from quantize.recipe import find_recipe
from quantize.study.finetuning import FINETUNED, ROUNDED
from quantize.study.scoring import Score
from quantize.study.setting import Setting

from studies import MakeSet, run_study, study_options

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")


@pytest.fixture
def options(
    make_capture_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    short = replace(find_recipe(FINETUNED), finetune_steps=20)
    monkeypatch.setitem(quantize.recipe.RECIPES, FINETUNED, short)
    return study_options(make_capture_set, tmp_path, monkeypatch)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Mean drops in dB by recipe, to be filled in: programs are made, scores are these."""
    drops: dict[str, float] = {}

    def score(_: Setting, program: StaticProgram) -> Score:
        return Score((50.0,), (drops[program.recipe.name],))

    monkeypatch.setattr(Setting, "score", score)
    return drops


def result_of(options: dict[str, str]) -> dict[str, Any]:
    path = Path(options["--output"]) / "finetune.json"
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def test_both_are_made_scored_and_kept_where_an_export_finds_them(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run_study("finetune", options)
    assert FINETUNED in capfd.readouterr().out
    first = result_of(options)["contenders"]
    assert [one["recipe"]["name"] for one in first] == [ROUNDED, FINETUNED]
    assert first[0]["program_sha256"] != first[1]["program_sha256"]
    assert list(Path(options["--store"]).glob(f"{FINETUNED}-*.safetensors"))

    def learned_again(*_: object, **__: object) -> None:
        pytest.fail("the kept program was not used")

    monkeypatch.setattr("quantize.ptq.finetune", learned_again)
    run_study("finetune", options, "--json")
    again = json.loads(capfd.readouterr().out)["contenders"]
    assert [one["program_sha256"] for one in again] == [one["program_sha256"] for one in first]


@pytest.mark.parametrize(
    ("finetuned_db", "code", "advice"),
    [(0.01, 0, "Export it: --recipe int8-finetuned"), (0.05, 1, "keep int8."), (0.03, 1, "keep")],
)
def test_the_exit_code_says_whether_it_helped(
    options: dict[str, str],
    plant: dict[str, float],
    capfd: pytest.CaptureFixture[str],
    finetuned_db: float,
    code: int,
    advice: str,
) -> None:
    plant |= {ROUNDED: 0.03, FINETUNED: finetuned_db}
    assert run_study("finetune", options) == code
    assert advice in " ".join(capfd.readouterr().out.split())
    assert result_of(options)["helps"] is (code == 0)


def test_held_out_captures_are_refused(options: dict[str, str], make_capture_set: MakeSet) -> None:
    held_out = make_capture_set(Split.HELD_OUT, 1)
    with pytest.raises(CaptureError, match="no longer held out"):
        run_study("finetune", options | {"--captures": str(held_out.root)})
