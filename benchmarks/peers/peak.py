"""What int8 arithmetic can reach in a runtime: products of 2048 x 2048 matrices and nothing else.

A 1x1 convolution of 2048 channels at 2048 positions is a fully connected layer on 2048 rows. The
network takes the six inputs and returns a picture, so it goes through the ordinary export, by

    --factory benchmarks.peers.peak:make --resolution 256x512
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfnet.profiles import Resolution

RESOLUTION = Resolution(256, 512)
"""2048 positions after folding blocks of 8x8 pixels into channels."""

SIDE = 2048
LAYERS = 2
_BLOCK = 8


class MatrixProducts(nn.Module):
    """640 -> 2048 -> 2048 -> 2048 -> 192 channels at 1/8 of the size, unfolded to a picture."""

    def __init__(self) -> None:
        super().__init__()
        folded, picture = 10 * _BLOCK**2, 3 * _BLOCK**2
        widths = (folded, *[SIDE] * (LAYERS + 1), picture)
        self.layers = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1) for inputs, outputs in itertools.pairwise(widths)
        )

    def forward(
        self,
        wide: Tensor,
        ultrawide: Tensor,
        defocus_wide: Tensor,
        defocus_ultrawide: Tensor,
        defocus_target: Tensor,
        occlusion: Tensor,
    ) -> Tensor:
        """Pictures (N, 3, H, W) and maps (N, 1, H, W) in [0, 1] -> (N, 3, H, W)."""
        maps = (defocus_wide, defocus_ultrawide, defocus_target, occlusion)
        x = F.pixel_unshuffle(torch.cat([wide, ultrawide, *maps], 1), _BLOCK)
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return F.pixel_shuffle(self.layers[-1](x), _BLOCK)


def make() -> nn.Module:
    """The same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MatrixProducts()
