"""A refocusing network unlike DFNet: one U-Net with BatchNorm, PReLU and transposed convolutions.

    make export-android FACTORY=examples.plain_unet:make WEIGHTS=examples/plain_unet.safetensors

Any ``nn.Module`` goes the same way when its ``forward`` takes these six inputs (dfnet.signature)
and returns the picture. It needs no code of this project.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def encode(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """3x3 convolution, BatchNorm, PReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.PReLU(outputs),
    )


def enlarge(inputs: int, outputs: int) -> nn.Sequential:
    """Transposed 2x2 convolution of stride 2, BatchNorm, PReLU."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.PReLU(outputs),
    )


class PlainUNet(nn.Module):
    """Four scales, concatenating skips, and a residual on the wide picture."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.at_full = encode(10, width, 1)
        self.at_half = nn.Sequential(encode(width, 2 * width, 2), encode(2 * width, 2 * width, 1))
        self.at_quarter = nn.Sequential(
            encode(2 * width, 3 * width, 2), encode(3 * width, 3 * width, 1)
        )
        self.at_eighth = nn.Sequential(
            encode(3 * width, 4 * width, 2), encode(4 * width, 4 * width, 1)
        )
        self.to_quarter = enlarge(4 * width, 3 * width)
        self.join_quarter = encode(6 * width, 3 * width, 1)
        self.to_half = enlarge(3 * width, 2 * width)
        self.join_half = encode(4 * width, 2 * width, 1)
        self.to_full = enlarge(2 * width, width)
        self.join_full = encode(2 * width, width, 1)
        self.picture = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.normal_(self.picture.weight, std=1e-3)

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
        full = self.at_full(
            torch.cat(
                [wide, ultrawide, defocus_wide, defocus_ultrawide, defocus_target, occlusion], 1
            )
        )
        half = self.at_half(full)
        quarter = self.at_quarter(half)
        x = self.to_quarter(self.at_eighth(quarter))
        x = self.to_half(self.join_quarter(torch.cat([x, quarter], 1)))
        x = self.to_full(self.join_half(torch.cat([x, half], 1)))
        residual: Tensor = self.picture(self.join_full(torch.cat([x, full], 1)))
        return wide + residual


def make() -> nn.Module:
    """The network whose weights are plain_unet.safetensors."""
    return PlainUNet()
