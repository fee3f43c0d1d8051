"""Learned rounding and fine-tuning pull the int8 graph towards its float self."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import quantize.finetune
from dfnet.errors import CalibrationError
from quantize.finetune import finetune
from quantize.learning import take_lessons
from quantize.observers import (
    Mode,
    WeightQuantizer,
    activations,
    modes,
    weights,
)
from quantize.rounding import Rounding, learn_rounding
from quantize.store import program_tensors, tensors_sha256

from small_networks import SmallNetwork, calibrated, int8_error, noise_crops, outputs, traced

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")

STEPS = 200
ENOUGH_STEPS = {"rounding": 1000, "fine-tuning": 100}
LEARN = {"rounding": learn_rounding, "fine-tuning": finetune}


class OneSided(SmallNetwork):
    """Every weight but the largest lies 0.4 codes above its nearest, so nearest is far off."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        for layer in (self.first, self.second):
            codes = torch.randint(-60, 60, layer.weight.shape) + 0.4
            codes[:, 0, 1, 1] = 127
            layer.weight.data.copy_(codes / 500)

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        result: Tensor = wide + self.second(torch.relu(self.first(ultrawide)))
        return result


@pytest.fixture(scope="module")
def graph() -> GraphModule:
    torch.manual_seed(0)
    return traced(OneSided())


@pytest.fixture(scope="module")
def nearest(graph: GraphModule) -> GraphModule:
    """Calibrated and rounded to nearest; tests copy it."""
    return calibrated(graph)


@pytest.fixture
def prepared(nearest: GraphModule) -> GraphModule:
    return copy.deepcopy(nearest)


def moved(before: GraphModule, after: GraphModule) -> list[Tensor]:
    """By how many codes each weight differs from the float one, per tensor."""
    pairs = zip(weights(before), weights(after).items(), strict=True)
    return [
        (after.get_parameter(str(node.target)) - before.get_parameter(str(node.target))).detach()
        / quantizer.broadcast(quantizer.scale, after.get_parameter(str(node.target)))
        for _, (quantizer, node) in pairs
    ]


def codes(prepared: GraphModule) -> list[Tensor]:
    tensors = [
        (quantizer, prepared.get_parameter(str(node.target)).detach())
        for quantizer, node in weights(prepared).items()
    ]
    return [weight / quantizer.broadcast(quantizer.scale, weight) for quantizer, weight in tensors]


def largest(tensors: Sequence[Tensor]) -> float:
    return max(float(tensor.abs().max()) for tensor in tensors)


def clip_what_the_first_layer_reads(prepared: GraphModule) -> None:
    """Halves the range of the ultrawide picture: larger weights would make up for it."""
    (quantizer,) = (q for q, node in activations(prepared).items() if node.name == "ultrawide")
    quantizer.settle(0, 0.5)


@pytest.mark.parametrize("how", LEARN)
def test_every_weight_ends_on_its_grid(how: str, prepared: GraphModule) -> None:
    LEARN[how](prepared, take_lessons(prepared, noise_crops()), STEPS)

    for learned in codes(prepared):
        torch.testing.assert_close(learned, learned.round(), atol=1e-3, rtol=0)
        assert float(learned.abs().max()) <= 127.001
    assert all(quantizer.relaxation is None for quantizer in weights(prepared))


def test_rounding_takes_one_of_the_two_nearest_codes(
    nearest: GraphModule, prepared: GraphModule
) -> None:
    learn_rounding(prepared, take_lessons(prepared, noise_crops()), STEPS)

    assert largest(moved(nearest, prepared)) < 1.001
    # Rounding to nearest would move none by more than half a code.
    assert largest(moved(nearest, prepared)) > 0.501


@pytest.mark.parametrize("how", LEARN)
def test_the_int8_graph_errs_less_than_with_nearest_rounding(
    how: str, graph: GraphModule, nearest: GraphModule, prepared: GraphModule
) -> None:
    LEARN[how](prepared, take_lessons(prepared, noise_crops()), ENOUGH_STEPS[how])

    unseen = noise_crops(8)[4:]
    for crops in (noise_crops(), unseen):
        assert int8_error(prepared, graph, crops) < 0.5 * int8_error(nearest, graph, crops)


@pytest.mark.parametrize("how", LEARN)
def test_learning_repeats_exactly(how: str, nearest: GraphModule) -> None:
    def identity() -> str:
        prepared = copy.deepcopy(nearest)
        LEARN[how](prepared, take_lessons(prepared, noise_crops()), 40)
        return tensors_sha256(program_tensors(prepared))

    assert identity() == identity()


def test_another_seed_learns_something_else(nearest: GraphModule) -> None:
    def identity(seed: int) -> str:
        prepared = copy.deepcopy(nearest)
        learn_rounding(prepared, take_lessons(prepared, noise_crops()), 40, seed=seed)
        return tensors_sha256(program_tensors(prepared))

    assert identity(0) != identity(1)


@pytest.mark.parametrize("how", LEARN)
def test_an_error_that_is_not_finite_is_refused(how: str, prepared: GraphModule) -> None:
    bias = next(value for name, value in prepared.named_parameters() if name == "second.bias")
    bias.data[0] = float("nan")

    with pytest.raises(CalibrationError, match="not finite") as refused:
        LEARN[how](prepared, take_lessons(prepared, noise_crops()), STEPS)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("how", LEARN)
def test_no_crops_are_refused(how: str, prepared: GraphModule) -> None:
    with pytest.raises(CalibrationError, match="got no crops"):
        LEARN[how](prepared, (), STEPS)


@pytest.mark.parametrize("how", LEARN)
def test_progress_is_told_after_every_step(how: str, prepared: GraphModule) -> None:
    steps: list[tuple[int, int]] = []

    LEARN[how](
        prepared,
        take_lessons(prepared, noise_crops(1)),
        5,
        progress=lambda *step: steps.append(step),
    )

    assert steps == [(done, 5) for done in range(1, 6)]


def test_fixed_ranges_stay_and_no_stretch_is_left(prepared: GraphModule) -> None:
    before = {q: q.scale.clone() for q in activations(prepared)}

    learn_rounding(prepared, take_lessons(prepared, noise_crops()), 40)

    unmoved = {q for q, scale in before.items() if torch.equal(scale, q.scale)}
    assert unmoved == {q for q in before if q.fixed is not None}
    assert {q.stretch.item() for q in before} == {0}
    assert {q.mode for q in before} == {Mode.WATCH}


def test_float_mode_shows_the_learned_weights(prepared: GraphModule) -> None:
    """Weights on their grid are what they are in either mode."""
    learn_rounding(prepared, take_lessons(prepared, noise_crops()), 40)

    only_weights = [*activations(prepared)]
    with modes(prepared, Mode.INT8, but=only_weights):
        rounded = outputs(prepared, noise_crops())
    with modes(prepared, Mode.FLOAT):
        torch.testing.assert_close(outputs(prepared, noise_crops()), rounded)


def test_fine_tuning_moves_a_weight_by_more_than_a_code_where_that_helps(
    graph: GraphModule, nearest: GraphModule
) -> None:
    clipped = copy.deepcopy(nearest)
    clip_what_the_first_layer_reads(clipped)
    free, bound = copy.deepcopy(clipped), copy.deepcopy(clipped)

    finetune(free, take_lessons(free, noise_crops()), 2 * STEPS)
    learn_rounding(bound, take_lessons(bound, noise_crops()), 2 * STEPS)

    assert largest(moved(nearest, free)) > 1.5
    assert largest(moved(nearest, bound)) < 1.001
    errors = [int8_error(one, graph, noise_crops()) for one in (free, bound)]
    assert errors[0] < errors[1]


def test_fine_tuning_stops_when_its_time_is_over(
    prepared: GraphModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize.finetune, "MOST_CPU_SECONDS", 0.0)
    steps: list[int] = []

    finetune(
        prepared,
        take_lessons(prepared, noise_crops()),
        10_000,
        progress=lambda done, _: steps.append(done),
    )

    assert len(steps) < 10
    assert all(torch.allclose(c, c.round(), atol=1e-3) for c in codes(prepared))


def choices(*values: float) -> Rounding:
    """A weight with a scale of 1 whose choices are made from ``values``."""
    quantizer = WeightQuantizer(ch_axis=0)
    quantizer.scale = torch.ones(1)
    return Rounding(quantizer, torch.tensor([values]))


def test_a_choice_starts_at_the_float_weight() -> None:
    weight = torch.tensor([[0.3, -0.3, 5.75, -126.4]])

    torch.testing.assert_close(choices(*weight[0].tolist())(weight), weight)


def test_the_surest_choices_settle_first_and_on_their_own_side() -> None:
    rounding = choices(2.1, 2.45, 2.6, 2.95)

    with torch.no_grad():
        rounding.settle(least=0.3)

    assert rounding(torch.empty(1, 4))[0].tolist() == [
        2,
        pytest.approx(2.45),
        pytest.approx(2.6),
        3,
    ]
    with torch.no_grad():
        rounding.settle(least=0.0)
    assert rounding(torch.empty(1, 4))[0].tolist() == [2, 2, 3, 3]
