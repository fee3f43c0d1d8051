"""A quantized tensor watches, passes on, or stands for its codes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

from dfnet.errors import CalibrationError
from quantize.observers import (
    HIGHEST,
    LOWEST,
    SAMPLES_PER_FEED,
    SYMMETRIC,
    ActivationQuantizer,
    Mode,
    WeightQuantizer,
    activations,
    modes,
    weights,
)

from small_networks import (
    SmallNetwork,
    calibrated,
    chain_of,
    int8_outputs,
    noise_crops,
    outputs,
    traced,
)

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")


class Pair(SmallNetwork):
    """Two convolutions, a sum of features, and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Conv2d(7, 3, 3, padding=1)

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        x = torch.relu(self.lift(ultrawide))
        result: Tensor = wide + self.head(torch.cat([x, wide], 1))
        return result


@pytest.fixture(scope="module")
def graph() -> GraphModule:
    torch.manual_seed(0)
    return traced(Pair())


@pytest.fixture
def prepared(graph: GraphModule) -> GraphModule:
    return calibrated(graph)


def settled(low: float, high: float) -> ActivationQuantizer:
    quantizer = ActivationQuantizer()
    quantizer.settle(low, high)
    quantizer.mode = Mode.INT8
    return quantizer


SPANS = [(-0.37, 2.9), (-1.0, 1.0), (0.2, 3.0), (-3.0, -0.2), (0.0, 0.0), (-1e-9, 5.0)]


@pytest.mark.parametrize(("low", "high"), SPANS)
def test_zero_stays_exact(low: float, high: float) -> None:
    assert settled(low, high)(torch.zeros(1)).item() == 0
    assert LOWEST <= int(settled(low, high).zero_point) <= HIGHEST


@pytest.mark.parametrize(("low", "high"), SPANS[:4])
def test_a_value_within_the_range_errs_by_half_a_step_and_others_are_clipped(
    low: float, high: float
) -> None:
    quantizer = settled(low, high)
    step = float(quantizer.scale)
    inside = torch.linspace(min(low, 0), max(high, 0), 1001)

    # The zero point is an integer, so the ends may lie half a step further in.
    assert float((quantizer(inside) - inside).abs().max()) <= 1.01 * step
    assert float((quantizer(inside) - inside)[100:-100].abs().max()) <= 0.501 * step
    assert quantizer(torch.tensor([1e3])).item() == pytest.approx(max(high, 0), abs=step)
    assert quantizer(torch.tensor([-1e3])).item() == pytest.approx(min(low, 0), abs=step)


def test_watching_and_float_change_no_value() -> None:
    quantizer = settled(-1, 1)
    values = torch.linspace(-2, 2, 999)

    for mode in (Mode.WATCH, Mode.FLOAT):
        quantizer.mode = mode
        assert torch.equal(quantizer(values), values)
    quantizer.mode = Mode.INT8
    assert not torch.equal(quantizer(values), values)


def test_the_extremes_seen_are_exact_and_samples_are_a_share() -> None:
    values = torch.zeros(1, 1, 500, 500)
    values[0, 0, 123, 45], values[0, 0, 321, 54] = 9.0, -7.0
    quantizer, again = ActivationQuantizer(), ActivationQuantizer()

    for one in (quantizer, again):
        one(values)
        one(values + torch.rand(values.shape, generator=torch.Generator().manual_seed(0)))

    assert quantizer.low == -7
    assert 9 <= quantizer.high <= 10
    assert quantizer.samples.shape == (2 * SAMPLES_PER_FEED,)
    assert torch.equal(quantizer.samples, again.samples)


def test_samples_do_not_grow_without_end_and_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("quantize.observers._MOST_FEEDS", 3)
    quantizer = ActivationQuantizer()
    for feed in range(5):
        quantizer(torch.full((8,), float(feed)))

    assert len(quantizer.samples) == 3 * SAMPLES_PER_FEED
    assert quantizer.high == 4
    quantizer.forget()
    assert (len(quantizer.samples), quantizer.high) == (0, 4)


def test_a_tensor_that_nothing_reached_is_refused_in_one_line() -> None:
    quantizer = ActivationQuantizer()

    with pytest.raises(CalibrationError, match="no feed reached") as refused:
        quantizer.calculate_qparams()

    assert "\n" not in str(refused.value)
    quantizer.settle(0, 1)
    assert quantizer.calculate_qparams()[0].item() == pytest.approx(1 / 255)


def test_a_fixed_range_never_moves() -> None:
    quantizer = ActivationQuantizer(fixed=(1 / 255, LOWEST))

    quantizer(torch.tensor([-5.0, 9.0]))

    scale, zero_point = quantizer.calculate_qparams()
    assert [scale.item(), zero_point.item()] == pytest.approx([1 / 255, LOWEST])
    assert len(quantizer.samples) == 0


def test_folding_a_stretch_changes_where_it_is_kept_and_nothing_else() -> None:
    quantizer, values = settled(-1, 2), torch.linspace(-1.2, 2.2, 500)
    unstretched = quantizer(values)
    quantizer.stretch.data.fill_(0.05)
    stretched, parameters = quantizer(values), quantizer.calculate_qparams()

    quantizer.fold_stretch()

    assert not torch.equal(stretched, unstretched)
    torch.testing.assert_close(quantizer(values), stretched)
    torch.testing.assert_close(quantizer.calculate_qparams(), parameters)
    assert quantizer.stretch.item() == 0


@pytest.mark.parametrize("axis", [0, 1])
def test_the_largest_weight_of_every_channel_has_the_largest_code(axis: int) -> None:
    weight = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    weight = weight * torch.tensor([0.01, 1, 30, 0]).view(4, *[1] * (3 - axis))
    quantizer = WeightQuantizer(ch_axis=axis)

    assert torch.equal(quantizer(weight), weight)
    quantizer.mode = Mode.INT8
    rounded = quantizer(weight)

    scale = quantizer.broadcast(quantizer.scale, weight)
    codes = (rounded / scale).transpose(0, axis).flatten(1)
    torch.testing.assert_close(codes, codes.round(), atol=1e-4, rtol=0)
    assert codes.abs().amax(1).tolist() == pytest.approx([SYMMETRIC] * 3 + [0])
    assert bool(((rounded - weight).abs() <= 0.501 * scale).all())
    assert quantizer.calculate_qparams()[1].tolist() == [0] * 4


def test_a_relaxation_takes_the_place_of_rounding() -> None:
    quantizer = WeightQuantizer(ch_axis=0)
    quantizer(torch.ones(2, 2))
    quantizer.relaxation = nn.Hardtanh(0, 0.25)

    quantizer.mode = Mode.FLOAT
    assert quantizer(torch.ones(2, 2)).max() == 1
    quantizer.mode = Mode.INT8
    assert quantizer(torch.ones(2, 2)).max() == 0.25


def test_a_graph_lists_every_tensor_once(prepared: GraphModule) -> None:
    found = activations(prepared)

    assert len(found) == len({id(quantizer) for quantizer in found})
    assert [node.name for node in found.values()][:2] == ["wide", "ultrawide"]
    assert [node.target for node in weights(prepared).values()] == ["lift.weight", "head.weight"]


def test_float_mode_is_the_float_network_and_int8_mode_the_converted_one(
    graph: GraphModule, prepared: GraphModule
) -> None:
    crops = noise_crops(2)
    reference, simulated = outputs(graph, crops), int8_outputs(prepared, crops)
    with modes(prepared, Mode.FLOAT):
        passed_on = outputs(prepared, crops)

    converted = convert_pt2e(copy.deepcopy(prepared))

    assert torch.equal(passed_on, reference)
    damage = (simulated - reference).square().mean()
    # A value half way between two codes may be rounded either way.
    apart = (outputs(converted, crops) - simulated).square().mean()
    assert damage > 0
    assert apart < 0.01 * damage


def test_tensors_named_as_exceptions_are_in_the_other_mode(prepared: GraphModule) -> None:
    one, *others = activations(prepared)
    lift, head = weights(prepared)

    with modes(prepared, Mode.FLOAT, but=[one, lift]):
        assert (one.mode, lift.mode, head.mode) == (Mode.INT8, Mode.INT8, Mode.FLOAT)
        assert {other.mode for other in others} == {Mode.FLOAT}
    with modes(prepared, Mode.INT8, but=[one]):
        assert (one.mode, lift.mode) == (Mode.FLOAT, Mode.INT8)


def test_every_mode_comes_back_also_after_an_exception() -> None:
    first, second = ActivationQuantizer(), ActivationQuantizer()
    chain = chain_of(first, second)
    second.mode = Mode.FLOAT

    with pytest.raises(KeyError), modes(chain, Mode.INT8):
        assert (first.mode, second.mode) == (Mode.INT8, Mode.INT8)
        raise KeyError

    assert (first.mode, second.mode) == (Mode.WATCH, Mode.FLOAT)
