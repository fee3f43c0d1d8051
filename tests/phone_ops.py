"""One operator at a time between two convolutions, to see what each runtime makes of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from small_networks import SmallNetwork

WIDTH = 8

Operation = Callable[[Tensor], Tensor]


class Between(SmallNetwork):
    """Convolution, an operation on (N, 8, H, W), convolution, and the wide picture on top."""

    def __init__(self, operation: nn.Module | Operation) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lift = nn.Conv2d(6, WIDTH, 3, padding=1)
        self.head = nn.Conv2d(WIDTH, 3, 3, padding=1)
        self.operation = operation

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        features: Tensor = self.operation(self.lift(torch.cat([wide, ultrawide], 1)))
        picture = self.head(features)
        if picture.shape[-2:] != wide.shape[-2:]:
            size = (wide.shape[-2], wide.shape[-1])
            picture = F.interpolate(picture, size=size, mode="bilinear", align_corners=False)
        restored: Tensor = wide + picture
        return restored


def _module(module: nn.Module) -> nn.Module:
    """With weights and statistics that are not the trivial ones."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.1, 0.9)
    return module


def _grid_sample(x: Tensor) -> Tensor:
    theta = torch.tensor([[[1.0, 0.05, 0.0], [-0.05, 1.0, 0.0]]])
    grid = F.affine_grid(theta, [1, 1, 64, 64], align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


OPERATIONS: dict[str, Callable[[], nn.Module | Operation]] = {
    "relu": lambda: torch.relu,
    "relu6": lambda: F.relu6,
    "clamp": lambda: lambda x: x.clamp(0, 1),
    "sigmoid": lambda: torch.sigmoid,
    "tanh": lambda: torch.tanh,
    "elu": lambda: F.elu,
    "gelu": lambda: F.gelu,
    "silu": lambda: F.silu,
    "hardswish": lambda: F.hardswish,
    "hardsigmoid": lambda: F.hardsigmoid,
    "mish": lambda: F.mish,
    "softplus": lambda: F.softplus,
    "leaky_relu": lambda: lambda x: F.leaky_relu(x, 0.1),
    "prelu": lambda: _module(nn.PReLU(WIDTH)),
    "batch_norm": lambda: _module(nn.BatchNorm2d(WIDTH)),
    "layer_norm": lambda: lambda x: F.layer_norm(x, x.shape[1:]),
    "group_norm": lambda: _module(nn.GroupNorm(2, WIDTH)),
    "instance_norm": lambda: _module(nn.InstanceNorm2d(WIDTH, affine=True)),
    "softmax": lambda: lambda x: torch.softmax(x, 1),
    "chunk": lambda: lambda x: torch.cat(list(reversed(x.chunk(2, 1))), 1),
    "split": lambda: lambda x: torch.cat(list(reversed(torch.split(x, 4, 1))), 1),
    "slice": lambda: lambda x: torch.cat([x[:, 4:], x[:, :4]], 1),
    "roll": lambda: lambda x: torch.roll(x, 1, 2),
    "flip": lambda: lambda x: torch.flip(x, (3,)),
    "reflect_pad": lambda: lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")[..., 1:-1, 1:-1],
    "replicate_pad": lambda: lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate")[..., 1:-1, 1:-1],
    "constant_pad": lambda: lambda x: F.pad(x, (1, 1, 1, 1))[..., 1:-1, 1:-1],
    "nearest": lambda: lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"),
    "bilinear": lambda: (
        lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    ),
    "bilinear_corners": lambda: (
        lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
    ),
    "bicubic": lambda: (
        lambda x: F.interpolate(x, scale_factor=2.0, mode="bicubic", align_corners=False)
    ),
    "transposed": lambda: _module(nn.ConvTranspose2d(WIDTH, WIDTH, 2, stride=2)),
    "pixel_shuffle": lambda: lambda x: F.pixel_shuffle(torch.cat([x, x, x, x], 1), 2),
    "pixel_unshuffle": lambda: lambda x: F.pixel_unshuffle(x[:, : WIDTH // 4], 2),
    "avg_pool": lambda: lambda x: F.avg_pool2d(x, 2),
    "max_pool": lambda: lambda x: F.max_pool2d(x, 2),
    "adaptive_pool": lambda: lambda x: x * F.adaptive_avg_pool2d(x, 1),
    "mean": lambda: lambda x: x * x.mean((2, 3), keepdim=True),
    "amax": lambda: lambda x: x + x.amax(1, keepdim=True),
    "grid_sample": lambda: _grid_sample,
    "sub_const": lambda: lambda x: x - 0.5,
    "const_minus": lambda: lambda x: 1 - torch.relu(x),
    "const_minus_plain": lambda: lambda x: 1 - x,
    "const_over": lambda: lambda x: 1 / (torch.relu(x) + 1),
    "negate_add": lambda: lambda x: 1 + -torch.relu(x),
    "pow": lambda: lambda x: x**2,
    "sqrt": lambda: lambda x: torch.sqrt(torch.relu(x) + 1),
    "exp": lambda: lambda x: torch.exp(-torch.relu(x)),
    "abs": lambda: torch.abs,
    "div": lambda: lambda x: x / (torch.relu(x) + 1),
    "where": lambda: lambda x: torch.where(x > 0, x, 0.2 * x),
    "depthwise": lambda: _module(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)),
    "dilated": lambda: _module(nn.Conv2d(WIDTH, WIDTH, 3, padding=2, dilation=2)),
    "relu_and_itself": lambda: lambda x: x + torch.relu(x),
    "clamp_both_ways": lambda: lambda x: x.clamp(-1, 1),
    "clamp_elsewhere": lambda: lambda x: x.clamp(0, 0.7),
    "maximum": lambda: lambda x: torch.maximum(x, 0.5 * x),
    "softmax_rows": lambda: lambda x: torch.softmax(x, -1),
    "one_minus_sigmoid": lambda: lambda x: 1 - torch.sigmoid(x),
    "one_minus_sum": lambda: lambda x: 1 - (x + torch.sigmoid(x)),
    "max_pool_stride": lambda: lambda x: F.max_pool2d(x, 2, 2),
    "pad": lambda: lambda x: F.pad(x, (1, 1, 1, 1)),
    "stack_sum": lambda: lambda x: torch.stack([x, 2 * x], 1).sum(1),
    "matmul_attention": lambda: (
        lambda x: (
            (
                x.flatten(2) @ (x.flatten(2).transpose(1, 2) @ x.flatten(2)).softmax(-1)[..., :1]
            ).unsqueeze(-1)
            * x
        )
    ),
}

_NUMBER = "arithmetic with a number"
_FUNCTION = "pow, exp, log, sqrt, division"
_CONSTANT_FIRST = "constant - x, constant / x after a convolution"

RULES_OF: dict[str, tuple[str, ...]] = {
    "relu": (),
    "relu6": (),
    "clamp": ("clamp to [0, 1]",),
    "sigmoid": (),
    "tanh": ("tanh",),
    "elu": ("elu",),
    "gelu": ("gelu, hardswish",),
    "silu": ("silu, hardsigmoid",),
    "hardswish": ("gelu, hardswish",),
    "hardsigmoid": ("silu, hardsigmoid",),
    "mish": ("mish, softplus",),
    "softplus": ("mish, softplus",),
    "leaky_relu": ("leaky_relu",),
    "prelu": ("prelu",),
    "batch_norm": (),
    "layer_norm": ("layer_norm, group_norm, instance_norm",),
    "group_norm": ("layer_norm, group_norm, instance_norm",),
    "instance_norm": ("layer_norm, group_norm, instance_norm",),
    "softmax": ("softmax over channels",),
    "chunk": ("chunk, split",),
    "split": ("chunk, split",),
    "slice": (),
    "roll": ("roll",),
    "flip": ("flip",),
    "reflect_pad": ("reflecting or replicating padding",),
    "replicate_pad": ("reflecting or replicating padding",),
    "constant_pad": (
        "zero padding of its own",
        "zero padding before a slice",
    ),
    "nearest": ("nearest upsampling",),
    "bilinear": (),
    "bilinear_corners": (),
    "bicubic": ("bicubic upsampling",),
    "transposed": ("transposed convolution",),
    "pixel_shuffle": ("the same tensor concatenated with itself",),
    "pixel_unshuffle": (),
    "avg_pool": ("average pooling",),
    "max_pool": ("max pooling without a stride",),
    "adaptive_pool": (),
    "mean": (),
    "amax": ("amax",),
    "grid_sample": ("grid_sample",),
    "sub_const": (_NUMBER,),
    "const_minus": (
        _CONSTANT_FIRST,
        _NUMBER,
    ),
    "const_minus_plain": (
        _CONSTANT_FIRST,
        _NUMBER,
    ),
    "const_over": (
        _CONSTANT_FIRST,
        _NUMBER,
        "reciprocal",
    ),
    "negate_add": (_NUMBER,),
    "pow": (_FUNCTION,),
    "sqrt": (
        _NUMBER,
        _FUNCTION,
    ),
    "exp": (_FUNCTION,),
    "abs": ("abs",),
    "div": (
        "ReLU of a tensor that something else reads too",
        _NUMBER,
        _FUNCTION,
    ),
    "where": (
        _NUMBER,
        "where",
    ),
    "depthwise": (),
    "dilated": (),
    "relu_and_itself": ("ReLU of a tensor that something else reads too",),
    "clamp_both_ways": (),
    "clamp_elsewhere": ("clamp, maximum, minimum",),
    "maximum": (
        "clamp, maximum, minimum",
        _NUMBER,
    ),
    "softmax_rows": ("softmax along rows",),
    "one_minus_sigmoid": (_NUMBER,),
    "one_minus_sum": (_NUMBER,),
    "max_pool_stride": (),
    "pad": ("zero padding of its own",),
    "stack_sum": (
        _NUMBER,
        "sum",
    ),
    "matmul_attention": ("matrix product, attention",),
}
"""Which rows each operator shows: a rule that stops matching, or matches more, fails a test."""


def with_elu() -> nn.Module:
    """A factory's network with a problem."""
    return Between(OPERATIONS["elu"]())


def with_prelu() -> nn.Module:
    """A factory's network with nothing but a note, in int8."""
    return Between(OPERATIONS["prelu"]())
