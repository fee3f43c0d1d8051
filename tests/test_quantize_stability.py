"""``python -m quantize stability``: a calibration set whose halves disagree is found out."""

from __future__ import annotations

import json
from itertools import count as counter
from pathlib import Path
from typing import Any

import pytest
from torch.fx import GraphModule

from dfnet.capture import Split
from dfnet.errors import CalibrationError, CaptureError
from quantize.captures import MIN_CAPTURES
from quantize.dataflow import held_biases
from quantize.observers import activations
from quantize.stability import MOST_APART_DB, split_in_two

from studies import MakeSet, damage_programs, run_study, study_options

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")


@pytest.fixture
def options(
    make_capture_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    return study_options(make_capture_set, tmp_path, monkeypatch, calibration=2 * MIN_CAPTURES)


def result_of(options: dict[str, str]) -> dict[str, Any]:
    path = Path(options["--output"]) / "stability-int8.json"
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def test_halves_that_agree_pass(options: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run_study("stability", options) == 0
    assert "int8 calibrated on two halves" in capfd.readouterr().out
    result = result_of(options)
    one, other = result["halves"]
    assert result["apart_db"] == abs(one["drop_db"] - other["drop_db"]) <= MOST_APART_DB
    assert one["program_sha256"] != other["program_sha256"]
    assert run_study("stability", options, "--json") == 0
    assert json.loads(capfd.readouterr().out) == result


def test_a_planted_bad_half_fails(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    programs = counter(1)

    def brighten_the_second(prepared: GraphModule) -> None:
        if next(programs) == 2:
            for bias in held_biases(prepared):
                bias.data += 0.2
            for quantizer in activations(prepared):
                quantizer.scale *= 1 if quantizer.fixed else 20

    damage_programs(monkeypatch, brighten_the_second)
    assert run_study("stability", options) == 1
    assert "not stable" in capfd.readouterr().out
    assert result_of(options)["apart_db"] > MOST_APART_DB


def test_halves_are_disjoint_and_alternate(make_capture_set: MakeSet) -> None:
    whole = make_capture_set(Split.CALIBRATION, 2 * MIN_CAPTURES + 1)
    first, second = split_in_two(whole)
    assert (first.ids, second.ids) == (whole.ids[::2], whole.ids[1::2])


def test_too_few_captures_for_two_halves(make_capture_set: MakeSet) -> None:
    with pytest.raises(CalibrationError, match="got 15, needed at least 16"):
        split_in_two(make_capture_set(Split.CALIBRATION, 2 * MIN_CAPTURES - 1))


def test_held_out_captures_are_refused(options: dict[str, str], make_capture_set: MakeSet) -> None:
    held_out = make_capture_set(Split.HELD_OUT, 1)
    with pytest.raises(CaptureError, match="no longer held out"):
        run_study("stability", options | {"--captures": str(held_out.root)})
