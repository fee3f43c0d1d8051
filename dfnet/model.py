"""DFNet, a dual-camera refocusing network built from operators every phone runtime delegates.

After DC2 (Alzayer et al., "DC2: Dual-Camera Defocus Control by Learning to Refocus", CVPR 2023):
two refinement branches, one per camera, and a fusion module that predicts a blending mask and a
residual. DC2 does not publish channel widths or layer types; those are this project's own.

Every block is trained as parallel branches and knows how to ``fuse()`` itself into plain
convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dfnet.errors import UnsupportedError
from dfnet.signature import STRIDE


@dataclass(frozen=True)
class DFNetConfig:
    """Architecture of a DFNet.

    ``width`` is the channel count at half resolution; quarter and eighth resolution carry
    ``width * multipliers[1]`` and ``width * multipliers[2]``. ``blocks`` counts residual blocks at
    the three scales of each branch's encoder.
    """

    width: int = 16
    multipliers: tuple[int, int, int] = (1, 2, 3)
    blocks: tuple[int, int, int] = (2, 2, 4)
    batch_norm: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or min(self.multipliers) < 1 or min(self.blocks) < 0:
            raise UnsupportedError(
                f"DFNet configuration: got width {self.width}, multipliers {self.multipliers}, "
                f"blocks {self.blocks}; needed positive widths and non-negative block counts."
            )

    @property
    def channels(self) -> tuple[int, int, int]:
        """Channels at 1/2, 1/4 and 1/8 of the frame."""
        half, quarter, eighth = (self.width * m for m in self.multipliers)
        return half, quarter, eighth


class ConvReLU(nn.Module):
    """3x3 convolution, optional BatchNorm, ReLU: (N, in, H, W) -> (N, out, H/stride, W/stride)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        self.norm = nn.BatchNorm2d(outputs) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))

    def fuse(self) -> nn.Module:
        """A ``Sequential`` of one convolution and one ReLU that computes the same in eval mode."""
        return nn.Sequential(_fold_norm(self.conv, self.norm), nn.ReLU())


class ResidualBlock(nn.Module):
    """ReLU of parallel 3x3, 1x1 and identity branches: (N, C, H, W) -> (N, C, H, W).

    The sum of the branches is one 3x3 convolution (Ding et al., "RepVGG", CVPR 2021), so training
    computes it with the summed kernel: the same gradients for a third of the time.
    """

    def __init__(self, channels: int, *, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.point = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels) if norm else nn.Identity()
        nn.init.normal_(self.conv.weight, std=0.3 * (2 / (9 * channels)) ** 0.5)
        nn.init.normal_(self.point.weight, std=0.1 * (2 / channels) ** 0.5)
        nn.init.zeros_(_bias(self.conv))

    def merged_weight(self) -> Tensor:
        """The (C, C, 3, 3) kernel that equals the three branches together."""
        channels = self.conv.out_channels
        identity = torch.eye(channels, device=self.conv.weight.device)[:, :, None, None]
        return self.conv.weight + F.pad(self.point.weight + identity, (1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(F.conv2d(x, self.merged_weight(), self.conv.bias, padding=1)))

    def fuse(self) -> nn.Module:
        """A ``Sequential`` of one convolution and one ReLU that computes the same in eval mode."""
        channels = self.conv.out_channels
        merged = nn.Conv2d(channels, channels, 3, padding=1)
        merged.load_state_dict({"weight": self.merged_weight(), "bias": self.conv.bias})
        return nn.Sequential(_fold_norm(merged, self.norm), nn.ReLU())


def _bias(conv: nn.Conv2d) -> Tensor:
    """The bias of a convolution that is known to have one."""
    assert conv.bias is not None
    return conv.bias


def _fold_norm(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    """``conv`` with an eval-mode BatchNorm folded into its weights."""
    if not isinstance(norm, nn.BatchNorm2d):
        return conv
    return fuse_conv_bn_eval(conv.eval(), norm.eval())


def _blocks(count: int, channels: int, norm: bool) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels, norm=norm) for _ in range(count)))


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _image_head(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution that starts near zero, so that training starts from the input picture."""
    head = nn.Conv2d(inputs, outputs, 3, padding=1)
    with torch.no_grad():
        head.weight.mul_(0.1)
        nn.init.zeros_(_bias(head))
    return head


class BranchOutput(NamedTuple):
    """A branch's refined image (N, 3, H, W) and its features at 1/2, 1/4 and 1/8."""

    image: Tensor
    half: Tensor
    quarter: Tensor
    eighth: Tensor


class RefinementBranch(nn.Module):
    """Moves one camera's picture toward the target defocus.

    Input (N, 5, H, W): picture, its defocus map, the target map. A three-scale encoder-decoder
    with additive skips predicts a residual on the picture.
    """

    def __init__(self, config: DFNetConfig) -> None:
        super().__init__()
        half, quarter, eighth = config.channels
        norm = config.batch_norm
        self.stem = ConvReLU(5 * 4, half, norm=norm)
        self.encode_half = _blocks(config.blocks[0], half, norm)
        self.down_quarter = ConvReLU(half, quarter, stride=2, norm=norm)
        self.encode_quarter = _blocks(config.blocks[1], quarter, norm)
        self.down_eighth = ConvReLU(quarter, eighth, stride=2, norm=norm)
        self.encode_eighth = _blocks(config.blocks[2], eighth, norm)
        self.up_quarter = ConvReLU(eighth, quarter, norm=norm)
        self.decode_quarter = _blocks(2, quarter, norm)
        self.up_half = ConvReLU(quarter, half, norm=norm)
        self.decode_half = _blocks(2, half, norm)
        self.head = _image_head(half, 12)

    def forward(self, picture: Tensor, source: Tensor, target: Tensor) -> BranchOutput:
        x = F.pixel_unshuffle(torch.cat([picture, source, target], 1), 2)
        half = self.encode_half(self.stem(x))
        quarter = self.encode_quarter(self.down_quarter(half))
        eighth = self.encode_eighth(self.down_eighth(quarter))
        quarter = self.decode_quarter(_upsample(self.up_quarter(eighth)) + quarter)
        half = self.decode_half(_upsample(self.up_half(quarter)) + half)
        image = picture + F.pixel_shuffle(self.head(half), 2)
        return BranchOutput(image, half, quarter, eighth)


class Fusion(nn.Module):
    """Blends the two refined images, coarse to fine, steered by the occlusion mask (N, 1, H, W)."""

    def __init__(self, config: DFNetConfig) -> None:
        super().__init__()
        half, quarter, eighth = config.channels
        norm = config.batch_norm
        self.join_eighth = ConvReLU(2 * eighth + 1, quarter, norm=norm)
        self.blend_eighth = _blocks(2, quarter, norm)
        self.join_quarter = ConvReLU(2 * quarter + quarter + 1, quarter, norm=norm)
        self.blend_quarter = _blocks(2, quarter, norm)
        self.join_half = ConvReLU(2 * half + quarter + 4, half, norm=norm)
        self.blend_half = _blocks(2, half, norm)
        self.mask_head = _image_head(half, 4)
        self.residual_head = _image_head(half, 12)

    def forward(self, wide: BranchOutput, ultrawide: BranchOutput, occlusion: Tensor) -> Tensor:
        at_eighth = torch.cat([wide.eighth, ultrawide.eighth, F.avg_pool2d(occlusion, 8)], 1)
        x = _upsample(self.blend_eighth(self.join_eighth(at_eighth)))
        at_quarter = torch.cat([wide.quarter, ultrawide.quarter, x, F.avg_pool2d(occlusion, 4)], 1)
        x = _upsample(self.blend_quarter(self.join_quarter(at_quarter)))
        at_half = torch.cat([wide.half, ultrawide.half, x, F.pixel_unshuffle(occlusion, 2)], 1)
        x = self.blend_half(self.join_half(at_half))
        mask = torch.sigmoid(F.pixel_shuffle(self.mask_head(x), 2))
        residual = F.pixel_shuffle(self.residual_head(x), 2)
        # Written as a lerp: `1 - mask` would leave an operator outside XNNPACK's delegate and
        # litert-torch 0.10.0 miscompiles some `constant - f(conv(x))`.
        blended = ultrawide.image + mask * (wide.image - ultrawide.image)
        return blended + residual


class DFNet(nn.Module):
    """Re-renders the wide picture with a target defocus; see ``dfnet.signature`` for the inputs.

    All inputs are float32 [0, 1] NCHW of one height and width, multiples of 8. Returns
    (N, 3, H, W), nominally [0, 1] and not clipped.
    """

    def __init__(self, config: DFNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or DFNetConfig()
        self.wide_branch = RefinementBranch(self.config)
        self.ultrawide_branch = RefinementBranch(self.config)
        self.fusion = Fusion(self.config)

    def forward(
        self,
        wide: Tensor,
        ultrawide: Tensor,
        defocus_wide: Tensor,
        defocus_ultrawide: Tensor,
        defocus_target: Tensor,
        occlusion: Tensor,
    ) -> Tensor:
        """Raises UnsupportedError when height or width is not a multiple of 8."""
        height, width = wide.shape[2:]
        if height % STRIDE or width % STRIDE:
            raise UnsupportedError(
                f"DFNet input: got {height}x{width}, needed multiples of {STRIDE}. Crop or pad it."
            )
        return self.refine(
            wide, ultrawide, defocus_wide, defocus_ultrawide, defocus_target, occlusion
        )[0]

    def refine(
        self,
        wide: Tensor,
        ultrawide: Tensor,
        defocus_wide: Tensor,
        defocus_ultrawide: Tensor,
        defocus_target: Tensor,
        occlusion: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The output and, for the training loss, the two branches' own images."""
        refined_wide = self.wide_branch(wide, defocus_wide, defocus_target)
        refined_ultrawide = self.ultrawide_branch(ultrawide, defocus_ultrawide, defocus_target)
        refocused = self.fusion(refined_wide, refined_ultrawide, occlusion)
        return refocused, refined_wide.image, refined_ultrawide.image
