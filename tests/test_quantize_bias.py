"""What rounded weights shift on average is taken back by the bias."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from quantize.bias import correct_biases
from quantize.observers import Mode, activations, modes, weights

from small_networks import (
    SmallNetwork,
    calibrated,
    int8_outputs,
    noise_crops,
    outputs,
    traced,
)

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")


class Linear(nn.Module):
    """A linear layer over the channels of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return result


CORRECTED: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv2d(3, 3, 3, padding=1),
    "same padding": lambda: nn.Conv2d(3, 3, 3, padding="same"),
    "grouped": lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3),
    "transposed": lambda: nn.ConvTranspose2d(3, 3, 3, padding=1),
    "linear": Linear,
}
LEFT: dict[str, Callable[[], nn.Module]] = {
    "without bias": lambda: nn.Conv2d(3, 3, 3, padding=1, bias=False)
}
KINDS = {**CORRECTED, **LEFT}


class Layers(SmallNetwork):
    """One layer of each kind; their results are the channels of the output, three each."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(make() for make in KINDS.values())
        for parameter in self.parameters():
            if parameter.dim() > 1:
                _round_badly(parameter.data)

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        return torch.cat([layer(wide) for layer in self.layers], 1)


def _round_badly(weight: Tensor) -> None:
    """Gives every channel codes of k + 0.4 and a largest one of 127, so all are rounded down."""
    codes = torch.randint(-60, 60, weight.shape) + 0.4
    centre = weight.shape[-1] // 2
    for channel in range(len(weight)):
        place = (channel, min(channel, weight.shape[1] - 1), centre, centre)
        codes[place[: weight.dim()]] = 127.0
    weight.copy_(codes / 400)


@pytest.fixture(scope="module")
def layers() -> GraphModule:
    torch.manual_seed(0)
    return traced(Layers())


@pytest.fixture
def prepared(layers: GraphModule) -> GraphModule:
    return calibrated(layers)


@pytest.fixture
def corrected(prepared: GraphModule) -> GraphModule:
    correct_biases(prepared, noise_crops())
    return prepared


def shifts(prepared: GraphModule, layers: GraphModule) -> dict[str, float]:
    """The largest mean error of any output channel, per kind of layer."""
    crops = noise_crops()
    error = int8_outputs(prepared, crops) - outputs(layers, crops)
    means = error.mean((0, 2, 3)).abs().view(len(KINDS), 3).amax(1)
    return dict(zip(KINDS, means.tolist(), strict=True))


@pytest.mark.parametrize("kind", CORRECTED)
def test_a_shift_that_rounding_causes_is_removed(
    kind: str, layers: GraphModule, prepared: GraphModule
) -> None:
    before = shifts(prepared, layers)[kind]

    correct_biases(prepared, noise_crops())

    assert shifts(prepared, layers)[kind] < 0.2 * before


def test_layers_without_bias_are_left_alone(layers: GraphModule, corrected: GraphModule) -> None:
    after = shifts(corrected, layers)

    assert after["without bias"] == pytest.approx(
        shifts(calibrated(layers), layers)["without bias"]
    )
    assert after["without bias"] > 10 * after["convolution"]


def test_it_says_how_many_biases_it_corrected(prepared: GraphModule) -> None:
    assert correct_biases(prepared, noise_crops()) == len(CORRECTED)


def test_only_biases_change(layers: GraphModule, corrected: GraphModule) -> None:
    changed = {
        name
        for name, parameter in layers.named_parameters()
        if not torch.equal(parameter, corrected.get_parameter(name))
    }

    assert len(changed) == len(CORRECTED)
    assert all(name.endswith("bias") for name in changed)


def test_weights_that_are_exact_in_int8_shift_nothing(layers: GraphModule) -> None:
    exact = copy.deepcopy(layers)
    with torch.no_grad():
        for name, parameter in exact.named_parameters():
            if name.endswith("weight"):
                parameter.copy_((400 * parameter).round() / 400)
    prepared = calibrated(exact)

    correct_biases(prepared, noise_crops())

    for name, parameter in exact.named_parameters():
        torch.testing.assert_close(prepared.get_parameter(name), parameter, atol=1e-6, rtol=0)


def test_modes_and_ranges_are_as_before(prepared: GraphModule) -> None:
    scales = [quantizer.scale.clone() for quantizer in activations(prepared)]

    correct_biases(prepared, noise_crops())

    for quantizers in (activations(prepared), weights(prepared)):
        assert {quantizer.mode for quantizer in quantizers} == {Mode.WATCH}
    assert [quantizer.scale for quantizer in activations(prepared)] == scales
    with modes(prepared, Mode.FLOAT):
        assert outputs(prepared, noise_crops()).isfinite().all()
