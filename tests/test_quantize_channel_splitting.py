"""Splitting keeps what a network computes, and int8 resolves the halves twice as finely."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

from dfnet.errors import UnsupportedError
from quantize.channel_splitting import split_channels, splittable, stagger
from quantize.dataflow import read_dataflow
from quantize.observers import Mode, modes, weights
from quantize.split_choice import choose_splits

from small_networks import SmallNetwork, calibrated, int8_error, noise_crops, outputs, traced

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")


def conv(into: int, out: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(into, out, 3, stride, padding=1, groups=groups)


class Features(SmallNetwork):
    """Two loud features, one of them concatenated with a quiet one, and a shuffled head."""

    def __init__(self) -> None:
        super().__init__()
        self.loud, self.other, self.quiet = conv(3, 4), conv(4, 4), conv(3, 2)
        self.join, self.head = conv(6, 4), conv(4, 12, stride=2)
        self.quiet.weight.data.mul_(1e-3)
        for layer in (self.loud, self.other):
            layer.weight.data.mul_(3)

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        x = torch.relu(self.other(torch.relu(self.loud(wide))))
        x = torch.cat([torch.relu(self.quiet(ultrawide)), x], 1)
        return wide + nn.functional.pixel_shuffle(self.head(torch.relu(self.join(x))), 2)


@pytest.fixture(scope="module")
def graph() -> GraphModule:
    torch.manual_seed(0)
    return traced(Features())


def names_of(graph: GraphModule) -> tuple[str, ...]:
    pictures = set(graph.graph.nodes) - read_dataflow(graph.graph).before_convolution
    return tuple(splittable(graph.graph, pictures))


def split(graph: GraphModule, names: Sequence[str]) -> GraphModule:
    copied = copy.deepcopy(graph)
    split_channels(copied, names)
    return copied


def activation_error(graph: GraphModule, names: Sequence[str], *, staggered: bool = True) -> float:
    prepared = calibrated(split(graph, names))
    if staggered:
        stagger(prepared, names)
    crops = noise_crops()
    with modes(prepared, Mode.INT8, but=list(weights(prepared))):
        return float((outputs(prepared, crops) - outputs(graph, crops)).square().mean())


def test_every_convolution_of_the_network_can_be_split(graph: GraphModule) -> None:
    assert len(names_of(graph)) == 5


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_network_computes_the_same(graph: GraphModule, count: int) -> None:
    crops = noise_crops()

    for names in (names_of(graph)[:count], names_of(graph)[-count:][::-1]):
        torch.testing.assert_close(
            outputs(split(graph, names), crops), outputs(graph, crops), atol=1e-5, rtol=0
        )


def test_int8_errs_by_a_quarter_when_everything_is_split(graph: GraphModule) -> None:
    names = names_of(graph)
    plain, halves = activation_error(graph, ()), activation_error(graph, names)

    assert halves < 0.4 * plain
    # Without the shift both halves make the same error.
    assert activation_error(graph, names, staggered=False) > 0.8 * plain


def test_converted_graphs_hold_the_halves(graph: GraphModule) -> None:
    names = names_of(graph)
    prepared = calibrated(split(graph, names))
    stagger(prepared, names)
    simulated = int8_error(prepared, graph, noise_crops())

    converted = convert_pt2e(copy.deepcopy(prepared))

    difference = outputs(converted, noise_crops()) - outputs(graph, noise_crops())
    assert float(difference.square().mean()) == pytest.approx(simulated, rel=0.05)


class Unsplittable(SmallNetwork):
    """Results that something else than a convolution reads, or that share their weights."""

    def __init__(self, layer: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = layer
        self.last = conv(3, 3)

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        result: Tensor = self.last(self.layer(wide))
        return result


class Summed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = conv(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.first(x)) + x


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = conv(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shared(torch.relu(self.shared(x))))


@pytest.mark.parametrize(
    "layer",
    [
        Summed(),
        Twice(),
        nn.Sequential(conv(3, 3, groups=3), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU()),
        nn.Sequential(conv(3, 3), nn.Sigmoid()),
    ],
    ids=["summed", "shared weights", "grouped", "without bias", "no ReLU"],
)
def test_what_would_not_stay_the_same_is_not_offered(layer: nn.Module) -> None:
    graph = traced(Unsplittable(layer))

    assert names_of(graph) == ("conv2d_2",) if isinstance(layer, Twice) else ("conv2d_1",)
    with pytest.raises(UnsupportedError, match="Splitting relu: got no such result"):
        split_channels(graph, ["relu"])


def chosen(graph: GraphModule, share: float) -> tuple[str, ...]:
    pictures = set(graph.graph.nodes) - read_dataflow(graph.graph).before_convolution
    found = splittable(graph.graph, pictures)
    return choose_splits(graph, calibrated(graph), found, noise_crops(), share)


def test_the_noisiest_are_split_first_and_quiet_ones_never(
    graph: GraphModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantize.split_choice.QUIET_ENOUGH", 0.0)

    some, most = chosen(graph, 1.0), chosen(graph, 10.0)
    errors = [activation_error(graph, names) for names in (most, some, ())]

    assert 0 < len(some) < len(most)
    assert most[: len(some)] == some
    # What is concatenated with something louder needs no range of its own.
    assert "relu_2" not in most
    assert errors == sorted(errors)


def test_nothing_is_split_without_a_budget(
    graph: GraphModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantize.split_choice.QUIET_ENOUGH", 0.0)

    assert chosen(graph, 0.0) == ()


def test_a_quiet_network_is_left_as_it_is(graph: GraphModule) -> None:
    assert chosen(graph, 10.0) == ()
