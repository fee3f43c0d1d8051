"""A refocusing network unlike DFNet: one U-Net with BatchNorm, PReLU and transposed convolutions.

    make export-android FACTORY=examples.plain_unet:make WEIGHTS=examples/plain_unet.safetensors

Any ``nn.Module`` goes the same way when its ``forward`` takes these six inputs (dfnet.signature)
and returns the picture. It needs no code of this project.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def encode(inputs: int, outputs: int, stride: int = 1, *, norm: bool = False) -> nn.Sequential:
    """3x3 convolution, optional BatchNorm, PReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
    return nn.Sequential(
        conv, nn.BatchNorm2d(outputs) if norm else nn.Identity(), nn.PReLU(outputs)
    )


def enlarge(inputs: int, outputs: int) -> nn.Sequential:
    """Transposed 2x2 convolution of stride 2, PReLU."""
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 2, stride=2), nn.PReLU(outputs))


class PlainUNet(nn.Module):
    """Four scales, concatenating skips, and a residual on the wide picture.

    BatchNorm stands in the encoder only: in a decoder that restores a few edges it inflates rarely
    active channels until eight bits cannot hold them.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        half, quarter, eighth = 2 * width, 3 * width, 4 * width
        self.at_full = encode(10, width)
        self.at_half = nn.Sequential(encode(width, half, 2, norm=True), encode(half, half))
        self.at_quarter = nn.Sequential(
            encode(half, quarter, 2, norm=True), encode(quarter, quarter)
        )
        self.at_eighth = nn.Sequential(
            encode(quarter, eighth, 2, norm=True), encode(eighth, eighth)
        )
        self.to_quarter = enlarge(eighth, quarter)
        self.join_quarter = encode(2 * quarter, quarter)
        self.to_half = enlarge(quarter, half)
        self.join_half = encode(2 * half, half)
        self.to_full = enlarge(half, width)
        self.join_full = encode(2 * width, width)
        self.picture = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.normal_(self.picture.weight, std=1e-2)

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
