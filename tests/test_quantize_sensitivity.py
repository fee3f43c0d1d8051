"""``python -m quantize sensitivity``: every tensor is measured once, and the worst one is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.fx import GraphModule

from dfnet.capture import Split
from dfnet.console import run_command
from dfnet.errors import ArtifactError, CaptureError, UnsupportedError
from dfnet.model import DFNet
from quantize.__main__ import main
from quantize.dataflow import CONVOLUTIONS
from quantize.observers import weights
from quantize.prepare import prepare
from quantize.ptq import StaticProgram, quantize
from quantize.recipe import find_recipe
from quantize.sensitivity import uncorrected
from quantize.study.journal import Journal
from quantize.study.tensors import cost_of, macs, quantized_tensors

from small_networks import PLAIN, restorer, traced
from studies import MakeSet, damage_programs, run_study, study_options

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")


@pytest.fixture
def options(
    make_capture_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    return study_options(make_capture_set, tmp_path, monkeypatch)


def run(options: dict[str, str], *flags: str) -> object:
    return run_study("sensitivity", options, *flags)


def result_of(options: dict[str, str]) -> dict[str, Any]:
    path = Path(options["--output"]) / "sensitivity-int8.json"
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def refuse_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("quantize.sensitivity.score_in", refuse)


def test_a_study_tells_every_tensor_and_measures_each_once(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(options, "--top", "3") == 0
    table = capfd.readouterr().out
    result = result_of(options)
    rows, noises = result["rows"], [row["alone"]["noise"] for row in result["rows"]]
    assert {row["kind"] for row in rows} == {"weight", "activation"}
    assert noises == sorted(noises, reverse=True)
    assert [row["name"] for row in rows if row["name"] in table] == [r["name"] for r in rows[:3]]
    assert all(row["macs"] > 0 for row in rows if row["kind"] == "weight")
    plot = Path(options["--output"]) / "sensitivity-int8.png"
    assert plot.read_bytes().startswith(b"\x89PNG")

    refuse_to_measure(monkeypatch)
    assert run(options, "--json") == 0
    assert json.loads(capfd.readouterr().out) == result


def test_an_interrupted_study_goes_on_where_it_stopped(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(options)
    before = result_of(options)
    (journal,) = Path(options["--output"]).glob("*.jsonl")
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    with monkeypatch.context() as patch:
        refuse_to_measure(patch)
        with pytest.raises(AssertionError, match="measured again"):
            run(options)
    assert journal.read_bytes() == whole[: whole[:-20].rfind(b"\n") + 1]
    assert run(options) == 0
    assert (journal.read_bytes(), result_of(options)) == (whole, before)


def test_other_captures_are_another_study(
    options: dict[str, str], make_capture_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantize.sensitivity.quantized_tensors", lambda prepared: {})
    more = {"--captures": str(make_capture_set(Split.VALIDATION, 2).root)}
    run(options)
    run(options | more)
    run(options | more, "--captures-count", "1")
    assert len(list(Path(options["--output"]).glob("*.jsonl"))) == 2


def test_a_planted_bad_layer_is_the_worst(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarsen_the_head(prepared: GraphModule) -> None:
        for quantizer, node in weights(prepared).items():
            if str(node.target).startswith("head"):
                quantizer.scale = quantizer.scale * 100

    damage_programs(monkeypatch, coarsen_the_head)
    run(options)
    rows = result_of(options)["rows"]
    assert (rows[0]["module"], rows[0]["kind"]) == ("head", "weight")
    assert rows[0]["noise_share"] > 0.5
    assert max(rows, key=lambda row: float(row["kept_float"]["psnr_db"])) == rows[0]


@pytest.mark.parametrize(
    ("split", "sentence"),
    [(Split.HELD_OUT, "no longer held out"), (Split.CALIBRATION, "needed validation")],
)
def test_only_validation_captures_are_studied(
    options: dict[str, str], make_capture_set: MakeSet, split: Split, sentence: str
) -> None:
    with pytest.raises(CaptureError, match=sentence):
        run(options | {"--captures": str(make_capture_set(split, 1).root)})


def test_held_out_captures_exit_with_one_line(
    options: dict[str, str],
    make_capture_set: MakeSet,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("signal.signal", lambda number, handler: None)  # pytest keeps its own
    options["--captures"] = str(make_capture_set(Split.HELD_OUT, 1).root)
    with pytest.raises(SystemExit, match="2"):
        run_command(main, ["sensitivity", *(w for pair in options.items() for w in pair)])
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_float_recipe_has_nothing_to_study(options: dict[str, str]) -> None:
    with pytest.raises(UnsupportedError, match="needed int8"):
        run(options, "--recipe", "fp32")


@pytest.mark.parametrize("text", ["no json\n", '{"key": 1}\n', "[]\n"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(ArtifactError, match="no measurement"):
        Journal(path)


@pytest.mark.parametrize("recipe", ["int8", "int8-full", "int8-biases", "int8-compensated"])
def test_weights_are_studied_as_the_network_has_them(
    recipe: str, tiny_network: DFNet, make_capture_set: MakeSet
) -> None:
    captures = make_capture_set(Split.CALIBRATION, 8)

    program = quantize(tiny_network, uncorrected(find_recipe(recipe)), captures)

    assert isinstance(program, StaticProgram)
    for name, parameter in traced(tiny_network).named_parameters():
        assert torch.equal(program.prepared.get_parameter(name), parameter), name


def test_what_a_recipe_leaves_float_is_counted() -> None:
    network = restorer().eval()
    before, after = prepare(network, PLAIN), prepare(network, replace(PLAIN, keep_float=("mask",)))
    macs_of = {t.module: t.macs for t in quantized_tensors(before).values() if t.kind == "weight"}
    assert set(macs_of) == {"lift", "head", "mask"}
    assert cost_of(before).mac_share == cost_of(before).weight_bytes == 0
    assert cost_of(after).mac_share == pytest.approx(macs_of["mask"] / sum(macs_of.values()))
    assert cost_of(after).weight_bytes == 4 * network.mask.weight.numel()
    # The two pictures go in; the head's result comes out, and either the mask's or what it reads.
    assert cost_of(before).boundaries == cost_of(after).boundaries == 4


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (torch.nn.Conv2d(4, 6, 3, padding=1, groups=2), 8 * 10 * 6 * 2 * 9),
        (torch.nn.Conv2d(4, 6, 3, stride=2, padding=1), 4 * 5 * 6 * 4 * 9),
        (torch.nn.ConvTranspose2d(4, 6, 2, stride=2), 8 * 10 * 4 * 6 * 4),
    ],
)
def test_macs_are_those_of_the_convolution(layer: torch.nn.Module, expected: int) -> None:
    graph = torch.export.export(layer, (torch.zeros(1, 4, 8, 10),)).module().graph
    (convolution,) = [node for node in graph.nodes if node.target in CONVOLUTIONS]
    assert macs(convolution) == expected
