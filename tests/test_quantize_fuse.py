"""Fusing computes the same, on a copy, and proves it."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dfnet.errors import UnsupportedError
from dfnet.model import DFNet, DFNetConfig, ResidualBlock
from dfnet.signature import Feed
from dfnet.tensors import feed_tensors
from quantize.fuse import TOLERANCE, fuse


class Foreign(nn.Module):
    """BatchNorm after both kinds of convolution, and one that must stay."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(10, 6, 3, 2, 1, bias=False)
        self.down_norm = nn.BatchNorm2d(6)
        self.up = nn.ConvTranspose2d(6, 5, 2, 2)
        self.up_norm = nn.BatchNorm2d(5)
        self.lone_norm = nn.BatchNorm2d(5)
        self.head = nn.Conv2d(5, 3, 3, padding=1)

    def forward(
        self,
        wide: Tensor,
        ultrawide: Tensor,
        defocus_wide: Tensor,
        defocus_ultrawide: Tensor,
        defocus_target: Tensor,
        occlusion: Tensor,
    ) -> Tensor:
        maps = [defocus_wide, defocus_ultrawide, defocus_target, occlusion]
        x = torch.relu(self.down_norm(self.down(torch.cat([wide, ultrawide, *maps], 1))))
        x = torch.relu(self.up_norm(self.up(x)))
        out: Tensor = self.head(self.lone_norm(x)) + wide
        return out


class SharedConvolution(nn.Module):
    """One convolution whose result is also used without the BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(
        self, wide: Tensor, u: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
    ) -> Tensor:
        x = self.conv(wide)
        out: Tensor = self.norm(x) + x
        return out


class Untraceable(nn.Module):
    """Python control flow on values, and a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(
        self, wide: Tensor, u: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
    ) -> Tensor:
        x: Tensor = self.norm(self.conv(wide))
        return x + 1 if bool(x.sum() > 0) else x


class WrongBlock(nn.Module):
    """A block whose fused form forgets the ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))

    def fuse(self) -> nn.Module:
        return self.conv


class OnWide(nn.Module):
    """Runs one block on the wide picture."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, wide: Tensor, *others: Tensor) -> Tensor:
        out: Tensor = self.block(wide)
        return out


def with_statistics(network: nn.Module) -> nn.Module:
    """Gives every BatchNorm statistics that folding must not lose."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network.eval()


def outputs(network: nn.Module, feed: Feed) -> np.ndarray:
    with torch.no_grad():
        result: np.ndarray = network(*feed_tensors(feed)).numpy()
    return result


def count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_dfnet_becomes_plain_convolutions_that_compute_the_same(
    batch_norm: bool, feed: Feed
) -> None:
    torch.manual_seed(0)
    config = DFNetConfig(width=4, blocks=(1, 1, 1), batch_norm=batch_norm)
    network = with_statistics(DFNet(config))

    fused = fuse(network, [feed])

    assert count(fused, ResidualBlock) == count(fused, nn.BatchNorm2d) == 0
    assert np.abs(outputs(network, feed) - outputs(fused, feed)).max() <= TOLERANCE
    assert not fused.training


def test_the_original_is_untouched(tiny_network: DFNet, feed: Feed) -> None:
    tiny_network.train()
    before = copy.deepcopy(tiny_network.state_dict())

    fuse(tiny_network, [feed])

    after = tiny_network.state_dict()
    assert tiny_network.training
    assert count(tiny_network, ResidualBlock) > 0
    assert all(torch.equal(before[key], after[key]) for key in (*before, *after))


def test_batch_norm_of_a_foreign_network_folds_into_both_kinds_of_convolution(
    feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    network = with_statistics(Foreign())

    with caplog.at_level(logging.INFO):
        fused = fuse(network, [feed])

    assert count(fused, nn.BatchNorm2d) == 1
    assert "down_norm into down" in caplog.text
    assert "up_norm into up" in caplog.text
    assert "lone_norm stays" in caplog.text
    assert np.abs(outputs(network, feed) - outputs(fused, feed)).max() <= TOLERANCE


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (SharedConvolution(), "norm stays: it is not the only consumer"),
        (Untraceable(), "1 BatchNorm stay unfolded"),
    ],
)
def test_a_batch_norm_that_cannot_fold_stays_and_says_why(
    network: nn.Module, reason: str, feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    fused = fuse(with_statistics(network), [feed])

    assert count(fused, nn.BatchNorm2d) == 1
    assert reason in caplog.text


def test_a_block_that_fuses_to_something_else_is_refused(feed: Feed) -> None:
    with pytest.raises(UnsupportedError, match="differs by"):
        fuse(OnWide(WrongBlock()), [feed])


def test_a_network_that_gives_nan_is_refused(feed: Feed) -> None:
    network = OnWide(nn.Conv2d(3, 3, 1))
    next(network.parameters()).data.fill_(float("nan"))

    with pytest.raises(UnsupportedError, match="differs by nan"):
        fuse(network, [feed])


def test_nothing_is_proved_without_feeds(tiny_network: DFNet) -> None:
    with pytest.raises(UnsupportedError, match="0 proof feeds"):
        fuse(tiny_network, [])
