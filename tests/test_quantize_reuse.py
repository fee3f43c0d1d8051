"""A program is made once from the same ingredients, and again from others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

import quantize.ptq
from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.errors import ArtifactError
from quantize.captures import MIN_CAPTURES
from quantize.ptq import StaticProgram
from quantize.ptq import quantize as quantize_network
from quantize.recipe import Recipe, find_recipe
from quantize.store import program_key

from small_networks import PLAIN, noise_crops, restorer, traced

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")


@pytest.fixture(scope="module")
def graph() -> GraphModule:
    return traced(restorer())


@pytest.fixture
def captures(make_capture_set: Callable[..., CaptureSet]) -> CaptureSet:
    return make_capture_set(Split.CALIBRATION, MIN_CAPTURES, size=32)


def quantized(
    network: nn.Module, recipe: Recipe, captures: CaptureSet, store: Path
) -> StaticProgram:
    program = quantize_network(network, recipe, captures, store=store)
    assert isinstance(program, StaticProgram)
    return program


def forbid(*_: object, **__: object) -> None:
    raise AssertionError("a kept program was made again")


@pytest.mark.parametrize("name", ["int8", "int8-full"])
def test_the_second_time_nothing_is_learned(
    name: str, captures: CaptureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = quantized(restorer(), find_recipe(name), captures, tmp_path)
    work = ("equalize", "calibrate", "settle_ranges", "correct_biases", "finetune")
    for function in (*work, "learn_rounding", "cut_crops"):
        monkeypatch.setattr(quantize.ptq, function, forbid)

    kept = quantized(restorer(), find_recipe(name), captures, tmp_path)

    assert kept.sha256 == made.sha256
    assert kept.calibration == made.calibration
    assert len(list(tmp_path.glob(f"{name}-*.safetensors"))) == 1
    for crop in noise_crops():
        assert torch.equal(kept.module()(*crop), made.module()(*crop))


def test_without_a_store_the_same_is_made_and_nothing_is_kept(
    captures: CaptureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = quantize_network(restorer(), PLAIN, captures)

    assert isinstance(made, StaticProgram)
    assert not list(tmp_path.glob("*.safetensors"))
    assert made.sha256 == quantized(restorer(), PLAIN, captures, tmp_path / "store").sha256


def test_another_recipe_capture_set_or_weight_is_another_file(
    captures: CaptureSet, make_capture_set: Callable[..., CaptureSet], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    others = make_capture_set(Split.CALIBRATION, MIN_CAPTURES + 1, size=32)
    changed = restorer()
    changed.lift.weight.data[0, 0, 0, 0] += 0.1
    recipe = replace(PLAIN, observer="least-error")

    quantized(restorer(), PLAIN, captures, store)
    quantized(restorer(), recipe, captures, store)
    quantized(restorer(), PLAIN, others, store)
    quantized(changed, PLAIN, captures, store)

    assert len(list(store.iterdir())) == 4


def test_a_constant_that_no_checkpoint_holds_counts_too(graph: GraphModule) -> None:
    other = restorer()
    other.tint.mul_(0.5)

    assert program_key(graph, PLAIN, "c") == program_key(traced(restorer()), PLAIN, "c")
    assert program_key(graph, PLAIN, "c") != program_key(traced(other), PLAIN, "c")


def test_changed_sources_are_another_key(
    graph: GraphModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = program_key(graph, PLAIN, "c")
    monkeypatch.setattr("quantize.store.sources_sha256", lambda: "other")

    assert program_key(graph, PLAIN, "c") != before


def test_a_damaged_program_stops_the_next_run(captures: CaptureSet, tmp_path: Path) -> None:
    store = tmp_path / "store"
    quantized(restorer(), PLAIN, captures, store)
    (kept,) = store.iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])

    with pytest.raises(ArtifactError, match=kept.name):
        quantized(restorer(), PLAIN, captures, store)
