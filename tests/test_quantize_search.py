"""``python -m quantize search``: the cheapest recipe in the budget, chosen on validation alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dfnet.capture import Split
from dfnet.errors import ArtifactError, CaptureError
from dfnet.profiles import Precision
from quantize.recipe import RECIPES, Recipe, find_recipe
from quantize.search import EXTENDED, NAMED
from quantize.sensitivity import Row, Sensitivity
from quantize.study.candidates import float_order, with_float
from quantize.study.scoring import Score
from quantize.study.search_report import read_ratios, recipe_fields
from quantize.study.setting import Setting
from quantize.study.tensors import Cost, QuantizedTensor

from studies import MakeSet, run_study, study_options

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")

Plant = Callable[[dict[str, float]], list[str]]


@pytest.fixture
def options(
    make_capture_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    return study_options(make_capture_set, tmp_path, monkeypatch) | {
        "--held-out": str(make_capture_set(Split.HELD_OUT, 1).root),
        "--sensitivity": str(tmp_path / "sensitivity"),
    }


def run(options: dict[str, str], *flags: str) -> object:
    return run_study("search", options, *flags)


def result_of(options: dict[str, str]) -> dict[str, Any]:
    path = Path(options["--output"]) / "search.json"
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def row(module: str, regained: float, macs: int, readers: Sequence[str] = ()) -> Row:
    kind = "weight" if macs else "activation"
    tensor = QuantizedTensor(
        f"{module} {kind}", kind, module, module if macs else "", tuple(readers), macs
    )
    return Row(tensor, {}, {}, 0.0, regained, regained)


ROWS = (row("a", 0.02, 100), row("b", 0.03, 300), row("c", 0.001, 1), row("d", -0.1, 1))
"""By dB per MAC: c, a, b; keeping d float makes it worse."""


@dataclass(frozen=True)
class Planted:
    recipe: Recipe
    prepared: object = None


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """``plant({recipe: drop})``: candidates do so; returns who was scored."""

    def use(drops: dict[str, float]) -> list[str]:
        scored: list[str] = []

        def score(_: Setting, program: Planted, samples: object = None, **__: object) -> Score:
            name = program.recipe.name
            scored.append(f"{name} held out" if samples else name)
            return Score((50.0,), (9.0 if samples else drops[name],))

        monkeypatch.setattr(Setting, "score", score)
        monkeypatch.setattr(Setting, "program", lambda _, recipe, **__: Planted(recipe))
        monkeypatch.setattr(Setting, "sample", lambda _, captures: ("held out",))
        monkeypatch.setattr("quantize.search.cost_of", lambda _: Cost(1, 0.0, 0, 0))
        monkeypatch.setattr("quantize.search.measure", lambda *_: Sensitivity("int8", {}, {}, ROWS))
        return scored

    return use


LOSSY = {"int8-full": 0.4, "int8-compensated": 0.2, "int8": 0.1}


def test_a_real_search_takes_everything_in_int8_when_it_may(
    options: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(options, "--budget-db", "100") == 0
    out = capfd.readouterr().out
    assert "int8-full is the cheapest within 100 dB" in out
    assert "name='int8-full'" in out
    (only,) = result_of(options)["candidates"]
    assert only["cost"]["mac_share"] == 0
    assert only["cost"]["macs"] > 0
    assert result_of(options)["held_out"]["drop_db"] is not None


def test_a_real_search_ends_with_1_when_nothing_is_within_the_budget(
    options: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(options, "--budget-db=-100", "--most-modules", "1") == 1
    out = " ".join(capfd.readouterr().out.split())
    assert "No candidate stays within -100 dB; nearest is int8" in out
    assert "make finetune-int8" in out
    result = result_of(options)
    names = [candidate["recipe"]["name"] for candidate in result["candidates"]]
    assert names[:3] == list(NAMED)
    assert result["chosen"] is result["held_out"] is None


def test_modules_are_kept_float_until_the_drop_is_within_the_budget(
    options: dict[str, str], plant: Plant
) -> None:
    kept = {"int8-float1": 0.08, "int8-float2": 0.05}
    scored = plant(LOSSY | kept)
    assert run(options, "--budget-db", "0.06") == 0
    assert result_of(options)["chosen"]["keep_float"] == ["c", "a"]
    assert scored == [*NAMED, "int8-float1", "int8-float2", "int8-float2 held out"]


def test_every_candidate_is_corrected_and_named_ones_exist() -> None:
    assert all(find_recipe(name).compensate for name in (*NAMED, EXTENDED))


def test_the_nearest_is_named_when_none_is_within_the_budget(
    options: dict[str, str], plant: Plant, capfd: pytest.CaptureFixture[str]
) -> None:
    plant(LOSSY | {"int8-float1": 0.3, "int8-float2": 0.3})
    assert run(options, "--most-modules", "2") == 1
    assert "nearest is int8 with a mean drop of 0.1000 dB" in capfd.readouterr().out
    assert result_of(options)["held_out"] is None


@pytest.mark.parametrize("held_out_db", [-5.0, 0.0, 5.0])
def test_held_out_captures_do_not_change_the_choice(
    options: dict[str, str], plant: Plant, monkeypatch: pytest.MonkeyPatch, held_out_db: float
) -> None:
    scored = plant(LOSSY | {"int8": 0.01})
    planted = Setting.score

    def score(setting: Setting, program: Any, samples: Any = None, **called: Any) -> Score:
        result = planted(setting, program, samples, **called)
        return Score((50.0,), (held_out_db,)) if samples else result

    monkeypatch.setattr(Setting, "score", score)
    assert run(options) == 0
    result = result_of(options)
    assert result["chosen"]["name"] == "int8"
    assert result["held_out"]["drop_db"] == held_out_db
    assert [name for name in scored if name.endswith("held out")] == ["int8 held out"]
    assert scored[-1] == "int8 held out"


def test_the_choice_is_not_made_on_held_out_captures(
    options: dict[str, str], make_capture_set: MakeSet
) -> None:
    held_out = str(make_capture_set(Split.HELD_OUT, 1).root)
    with pytest.raises(CaptureError, match="no longer held out"):
        run(options | {"--captures": held_out})
    with pytest.raises(CaptureError, match="needed held_out"):
        run(options | {"--held-out": options["--captures"]})


def test_modules_go_by_what_they_regain_per_multiplication() -> None:
    assert list(float_order(ROWS)) == ["c", "a", "b"]


def test_an_activation_counts_once_all_its_readers_are_float() -> None:
    rows = [*ROWS[:2], row("z", 0.001, 1), row("b", 1.0, 0, ["z"])]
    assert list(float_order(rows)) == ["z", "b"]


def test_the_last_int8_convolution_stays() -> None:
    assert list(float_order([row("a", 1.0, 1), row("b", 2.0, 1)])) == ["b"]


def test_the_recipe_can_be_copied_into_the_source() -> None:
    kept = with_float(find_recipe("int8"), ["fusion.mask_head"])
    source = recipe_fields(kept)
    assert eval(source, {"Recipe": Recipe, "Precision": Precision}) == kept
    assert kept.name not in RECIPES


def test_measured_latencies_are_shown_where_there_are_any(
    options: dict[str, str], plant: Plant, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [{"recipe": "int8-full", "latency_ratio": ratio} for ratio in (0.61, 0.42, None)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    plant(LOSSY)
    run(options, "--budget-db", "0.25", "--ratios", str(path))
    out = capfd.readouterr().out
    assert "0.42 to 0.61" in out
    assert "not run" in out


@pytest.mark.parametrize("text", ["", "{}x", '[{"recipe": "int8"}]', "3"])
def test_a_file_that_holds_no_ratios_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(ArtifactError, match="benchmarks report --json"):
        read_ratios(path)
