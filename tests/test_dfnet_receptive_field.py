"""How far a network looks: followed through its graph, and felt by gradients."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from dfnet.reach import FACT, Halo, ReceptiveField, read_receptive_field
from dfnet.receptive_field import (
    check_receptive_field,
    describe_receptive_field,
    receptive_field,
)
from dfnet.tensors import example_inputs
from examples.plain_unet import PlainUNet

from fake_artifacts import write_artifact


def positive(network: nn.Module) -> nn.Module:
    """``network`` with small positive weights, so that no contribution cancels or is cut off."""
    for weight in network.parameters():
        weight.data = weight.data.abs() * 0.3 + 1e-3
    return network.double().eval()


def felt(network: nn.Module, alignment: int, frame: Resolution) -> tuple[int, ...]:
    """Reach up, left, down, right by impulses: which inputs have a gradient from the pixels of a
    middle block."""
    inputs = [x.double().requires_grad_() for x in example_inputs(frame)]
    picture = network(*inputs)
    row, column = (n // 2 // alignment * alignment for n in (frame.height, frame.width))
    reaches = []
    for phase in range(alignment):
        y, x = row + phase, column + phase
        pixel = picture[0, :, y, x].sum()
        grads = torch.autograd.grad(pixel, inputs, retain_graph=True, allow_unused=True)
        touched = torch.cat([g for g in grads if g is not None], 1).abs().amax((0, 1)) > 0
        rows = np.flatnonzero(touched.any(1).numpy())
        columns = np.flatnonzero(touched.any(0).numpy())
        reaches.append((y - rows[0], x - columns[0], rows[-1] - y, columns[-1] - x))
    return tuple(max(0, int(reach)) for reach in np.max(reaches, 0))


def edges(field: ReceptiveField) -> tuple[int, ...]:
    return field.top, field.left, field.bottom, field.right


class OneStep(nn.Module):
    """A network of one operation on the wide picture."""

    def __init__(self, step: nn.Module | Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.step = step

    def forward(self, wide: Tensor, *others: Tensor) -> Tensor:
        result: Tensor = self.step(wide)
        return result


def small(step: nn.Module | Callable[[Tensor], Tensor]) -> nn.Module:
    network = OneStep(step)
    # torch.export wants the signature spelled out, as dfnet.signature has it.
    return SixInputs(network)


class SixInputs(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Tensor:
        result: Tensor = self.network(a, b, c, d, e, f)
        return result


STEPS: dict[str, tuple[nn.Module | Callable[[Tensor], Tensor], int]] = {
    "1x1": (nn.Conv2d(3, 3, 1), 1),
    "3x5": (nn.Conv2d(3, 3, (3, 5), padding=(1, 2)), 1),
    "same": (nn.Conv2d(3, 3, 5, padding="same"), 1),
    "dilated": (nn.Conv2d(3, 3, 3, padding=4, dilation=4), 1),
    "down and up": (
        nn.Sequential(nn.Conv2d(3, 3, 3, 2, padding=1), nn.ConvTranspose2d(3, 3, 4, 2, padding=1)),
        2,
    ),
    "shuffles": (
        nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 48, 3, padding=1), nn.PixelShuffle(4)),
        4,
    ),
    "pooled, nearest": (nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=4)), 4),
    "padded": (lambda x: F.avg_pool2d(F.pad(x, (3, 1, 2, 0)), (3, 5), 1), 1),
    "bilinear": (
        nn.Sequential(
            nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        ),
        2,
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_each_operator_reaches_as_far_as_its_gradient(name: str) -> None:
    step, alignment = STEPS[name]
    network = positive(small(step))
    field = receptive_field(network.float())
    assert field.alignment == alignment
    assert edges(field) == felt(network.double(), alignment, Resolution(64, 64))


@pytest.mark.parametrize("make", [DFNet, PlainUNet])
def test_a_network_feels_exactly_its_field(make: Callable[[], nn.Module]) -> None:
    network = make()
    if isinstance(network, DFNet):
        network = DFNet(replace(network.config, width=2, blocks=(2, 2, 4)))
    network = positive(network)
    found = receptive_field(network.float())
    assert found.alignment == 8
    # A narrow frame is enough for the rows.
    assert edges(found)[::2] == felt(network.double(), 8, Resolution(256, 32))[::2]


def test_dfnets_field_and_halo() -> None:
    halo = Halo(cut=2, before=104, after=104)
    assert receptive_field(DFNet().eval()) == ReceptiveField(
        109, 109, 103, 103, alignment=8, rows=halo, columns=halo
    )


@pytest.mark.parametrize("axis", ["rows", "columns"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_halo_that_is_too_small_is_found_out(axis: str, side: str) -> None:
    network = positive(small(nn.Conv2d(3, 3, 9, padding=4))).float()
    field = receptive_field(network)
    assert (field.rows.before, field.rows.after) == (4, 4)
    check_receptive_field(network, field)
    smaller = replace(getattr(field, axis), **{side: 3})
    with pytest.raises(UnsupportedError, match="got a change of"):
        check_receptive_field(network, replace(field, **{axis: smaller}))


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Attention(), "mean"),
        (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), "align_corners"),
        (nn.Sequential(nn.AvgPool2d(3), nn.Upsample((512, 512))), "a grid that repeats"),
        (lambda x: torch.flip(x, (2,)), "flip"),
        (lambda x: F.softmax(x, 3), "softmax"),
    ],
)
def test_what_cannot_be_tiled_is_said_in_the_manifests_fact(step: Any, message: str) -> None:
    fact = describe_receptive_field(small(step).eval())
    assert set(fact) == {"unknown"}
    assert message in fact["unknown"]


def test_a_manifest_gives_the_field_back(tiny_network: DFNet, tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path, tiny_network)
    fact = json.loads(json.dumps(describe_receptive_field(tiny_network)))
    stated = replace(artifact, manifest=replace(artifact.manifest, facts={FACT: fact}))
    assert asdict(read_receptive_field(stated)) == fact


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, "without facts.receptive_field"),
        ({FACT: {"unknown": "It flips."}}, "cannot be tiled. It flips."),
        ({FACT: {"top": 3}}, "needed the fields of"),
    ],
)
def test_an_artifact_that_does_not_state_its_field_says_so(
    facts: dict[str, Any], message: str, tiny_network: DFNet, tmp_path: Path
) -> None:
    artifact = write_artifact(tmp_path, tiny_network)
    stated = replace(artifact, manifest=replace(artifact.manifest, facts=facts))
    with pytest.raises(ArtifactError, match=message):
        read_receptive_field(stated)
