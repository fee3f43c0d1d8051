"""Quiet channels become louder, and the network computes the same."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import quantize.equalize
from dfnet.errors import UnsupportedError
from quantize.equalize import QUIETEST, STRENGTH, equalize

from small_networks import SmallNetwork, calibrated, int8_error, noise_crops, outputs, traced

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")

_aten = torch.ops.aten
_QUIET = 1e-4
_MOST = QUIETEST**-STRENGTH
"""The gain of a channel that is much quieter than any counts for."""


def conv(into: int, out: int, *, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(into, out, 3, padding=1, groups=groups)


class Branch(nn.Module):
    """A convolution whose first channel is quiet, something, and a convolution that reads it."""

    def __init__(self, middle: nn.Module, *, width: int) -> None:
        super().__init__()
        self.first = conv(3, 4)
        self.middle = middle
        self.second = conv(width, 3)
        for parameter in self.first.parameters():
            parameter.data[0] *= _QUIET

    def forward(self, picture: Tensor) -> Tensor:
        result: Tensor = self.second(self.middle(self.first(picture)))
        return result


class Skip(nn.Module):
    """A residual block: both sides of its sum must share their factors."""

    def __init__(self) -> None:
        super().__init__()
        self.body = conv(4, 4)
        for parameter in self.body.parameters():
            parameter.data[0] *= _QUIET

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = torch.relu(x + self.body(torch.relu(x)))
        return result


class Joined(nn.Module):
    """A concatenation of two convolutions' results."""

    def __init__(self) -> None:
        super().__init__()
        self.other = conv(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.relu(x), self.other(x)], 1)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = conv(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.shared(torch.relu(self.shared(torch.relu(x))))
        return result


PASSED: dict[str, Callable[[], nn.Module]] = {
    "straight": nn.ReLU,
    "bent": lambda: nn.PReLU(4),
    "leaky": nn.LeakyReLU,
    "pooled": lambda: nn.Sequential(
        nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Upsample(scale_factor=4, mode="bilinear")
    ),
    "skipped": Skip,
    "shuffled": lambda: nn.Sequential(nn.MaxPool2d(2), conv(4, 12), nn.PixelShuffle(2)),
    "joined": Joined,
}
"""What a factor per channel passes through."""
PINNED: dict[str, Callable[[], nn.Module]] = {
    "twice": Twice,
    "grouped": lambda: conv(4, 4, groups=2),
    "curved": nn.Sigmoid,
}
"""What it does not pass through."""
_WIDTHS = {"joined": 6, "shuffled": 3}


class Everything(SmallNetwork):
    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(
            {
                name: Branch(middle(), width=_WIDTHS.get(name, 4))
                for name, middle in {**PASSED, **PINNED}.items()
            }
        )

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        for branch in self.branches.values():
            wide = wide + 0.2 * branch(ultrawide)
        return wide


class Loud(SmallNetwork):
    """One channel is a hundred times as loud as the others, which matter as much."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(3, 8), conv(8, 3)
        for parameter in self.first.parameters():
            parameter.data[0] *= 100
        self.second.weight.data[:, 0] /= 100

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        result: Tensor = wide + self.second(torch.relu(self.first(ultrawide)))
        return result


@pytest.fixture(scope="module")
def everything() -> GraphModule:
    torch.manual_seed(0)
    return traced(Everything())


@pytest.fixture(scope="module")
def equalized(everything: GraphModule) -> GraphModule:
    graph = copy.deepcopy(everything)
    equalize(graph, noise_crops())
    return graph


def gains(before: GraphModule, after: GraphModule, name: str) -> Tensor:
    """How much louder each channel of a branch's first convolution became."""
    one, other = (g.get_parameter(f"branches.{name}.first.bias") for g in (before, after))
    return other.detach() / one.detach()


def test_the_output_stays_the_same(everything: GraphModule, equalized: GraphModule) -> None:
    crops = noise_crops(6)

    difference = outputs(equalized, crops) - outputs(everything, crops)

    assert float(difference.abs().max()) < 1e-5


@pytest.mark.parametrize("name", PASSED)
def test_a_quiet_channel_becomes_louder(
    name: str, everything: GraphModule, equalized: GraphModule
) -> None:
    quiet, *others = gains(everything, equalized, name).tolist()

    assert quiet == pytest.approx(_MOST)
    assert all(1 <= gain < quiet for gain in others)


@pytest.mark.parametrize("name", PINNED)
def test_what_a_factor_cannot_pass_through_stays(
    name: str, everything: GraphModule, equalized: GraphModule
) -> None:
    assert gains(everything, equalized, name).tolist() == [1] * 4


@pytest.mark.parametrize("head", ["shuffled.middle.1", "twice.middle.shared", "bent.second"])
def test_what_makes_the_picture_stays_as_loud(
    head: str, everything: GraphModule, equalized: GraphModule
) -> None:
    """Also where it does so through pixel_shuffle, which mixes channels."""
    name = f"branches.{head}.bias"

    assert torch.equal(everything.get_parameter(name), equalized.get_parameter(name))


def test_the_reader_of_a_louder_channel_takes_it_back(
    everything: GraphModule, equalized: GraphModule
) -> None:
    name = "branches.straight.second.weight"
    before, after = (graph.get_parameter(name)[:, 0] for graph in (everything, equalized))

    torch.testing.assert_close(after * _MOST, before)


def test_it_says_how_many_channels_became_louder(everything: GraphModule) -> None:
    graph = copy.deepcopy(everything)

    louder = equalize(graph, noise_crops())

    firsts = [gains(everything, graph, name) for name in {**PASSED, **PINNED}]
    assert louder >= sum(int((gain > 1).sum()) for gain in firsts) >= len(PASSED)


def test_without_strength_nothing_changes(
    everything: GraphModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize.equalize, "STRENGTH", 0.0)
    graph = copy.deepcopy(everything)

    assert equalize(graph, noise_crops()) == 0
    for name, parameter in everything.named_parameters():
        assert torch.equal(graph.get_parameter(name), parameter)


def test_int8_errs_less_where_one_channel_is_loud() -> None:
    torch.manual_seed(0)
    loud, crops = traced(Loud()), noise_crops()
    graph = copy.deepcopy(loud)

    equalize(graph, crops)

    before, after = (int8_error(calibrated(one), loud, crops) for one in (loud, graph))
    assert after < 0.25 * before


def test_a_graph_that_no_longer_computes_the_same_is_refused(
    everything: GraphModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No factor passes through a sigmoid."""
    wrong = quantize.equalize._PER_CHANNEL | {_aten.sigmoid.default}
    monkeypatch.setattr(quantize.equalize, "_PER_CHANNEL", wrong)

    with pytest.raises(UnsupportedError, match="Equalization: the output changed"):
        equalize(copy.deepcopy(everything), noise_crops())


def test_a_graph_whose_output_is_not_a_number_is_refused(everything: GraphModule) -> None:
    graph = copy.deepcopy(everything)
    graph.get_parameter("branches.bent.second.bias").data[0] = float("nan")

    with pytest.raises(UnsupportedError, match="the output changed by nan"):
        equalize(graph, noise_crops())


def test_no_crops_are_refused(everything: GraphModule) -> None:
    with pytest.raises(UnsupportedError, match="got no crops"):
        equalize(copy.deepcopy(everything), ())
