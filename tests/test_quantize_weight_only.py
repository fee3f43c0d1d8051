"""Weights rounded well once are found again by any SDK that rounds to nearest."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.tensors import feed_tensors
from quantize.ptq import FloatProgram, quantize
from quantize.recipe import find_recipe
from quantize.weight_only import compensate_weights

from small_networks import restorer

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")

OUTERMOST = 127


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return restorer().eval()


@pytest.fixture
def captures(make_capture_set: Callable[..., CaptureSet]) -> CaptureSet:
    return make_capture_set(Split.CALIBRATION, 8)


def rounded_to_nearest(weight: Tensor) -> Tensor:
    """What an SDK does: symmetric, a scale per output channel from its largest weight."""
    scale = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / OUTERMOST
    return (weight / scale).round() * scale


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def error(candidate: nn.Module, network: nn.Module, captures: CaptureSet) -> float:
    """Mean squared difference of outputs over all captures and targets."""
    feeds = [feed_tensors(c.feed(target)) for c in captures for target in c.targets]
    with torch.no_grad():
        differences = [(candidate(*feed) - network(*feed)).square().mean() for feed in feeds]
    return float(torch.stack(differences).mean())


def test_rounding_to_nearest_changes_nothing_any_more(
    network: nn.Module, captures: CaptureSet
) -> None:
    rounded, facts = compensate_weights(network, captures)

    assert facts.captures == len(captures)
    pairs = list(zip(convolutions(network), convolutions(rounded), strict=True))
    assert pairs
    for before, after in pairs:
        torch.testing.assert_close(
            rounded_to_nearest(after.weight), after.weight, rtol=1e-6, atol=1e-8
        )
        assert not torch.equal(before.weight, after.weight)
        torch.testing.assert_close(after.bias, before.bias, rtol=0, atol=0)


def test_it_beats_rounding_to_nearest(network: nn.Module, captures: CaptureSet) -> None:
    rounded, _ = compensate_weights(network, captures)
    nearest = copy.deepcopy(network)
    with torch.no_grad():
        for layer in convolutions(nearest):
            layer.weight.copy_(rounded_to_nearest(layer.weight))

    assert 0 < error(rounded, network, captures) < 0.7 * error(nearest, network, captures)


def test_w8_is_made_so_and_leaves_the_network_alone(
    network: nn.Module, captures: CaptureSet
) -> None:
    before = copy.deepcopy(network.state_dict())

    program = quantize(network, find_recipe("w8"), captures)

    assert isinstance(program, FloatProgram)
    assert program.calibration is not None
    expected, _ = compensate_weights(network, captures)
    for made, wanted in zip(convolutions(program.module()), convolutions(expected), strict=True):
        assert torch.equal(made.weight, wanted.weight)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
