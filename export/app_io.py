"""How a file takes and gives pictures: as float tensors, or as the bytes an app holds.

Bytes are uint8, (1, height, width, channels), 255 for 1.0: the memory of a decoded photo, or of an
Android bitmap without its alpha. Turning them into real numbers, and the result back, clipped and
rounded to the nearest level, is part of the file then, and an app does no arithmetic of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfnet.profiles import Resolution
from dfnet.signature import INPUTS
from export.stored import LEVELS, SCALE
from quantize.program import Calibration, Program
from quantize.recipe import Recipe


@dataclass(frozen=True)
class AppProgram:
    """``program`` under a recipe with ``app_io``: the same network, for files that take bytes."""

    program: Program
    recipe: Recipe

    @property
    def calibration(self) -> Calibration | None:
        return self.program.calibration

    @property
    def sha256(self) -> str | None:
        """Of a quantized program; None of a float one."""
        return getattr(self.program, "sha256", None)

    def module(self, *, fold_weights: bool = True) -> nn.Module:
        """The network between float tensors, which a runtime puts between bytes its own way."""
        return self.program.module(fold_weights=fold_weights)


def byte_examples(resolution: Resolution) -> tuple[Tensor, ...]:
    """Seeded uniform contiguous bytes in the order of ``INPUTS``, for tracing ``BytePictures``."""
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randint(
            0,
            LEVELS + 1,
            (1, resolution.height, resolution.width, spec.channels),
            dtype=torch.uint8,
            generator=generator,
        )
        for spec in INPUTS
    )


class BytePictures(nn.Module):
    """``network`` between bytes, in torch's own operators."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        # Not eval(): the graphs torch.export makes refuse to change mode.
        self.training = False

    def forward(self, *pictures: Tensor) -> Tensor:
        # Floats are rearranged, not bytes: delegates move no bytes.
        reals = (one.to(torch.float32).permute(0, 3, 1, 2).contiguous() for one in pictures)
        levels = levels_of(self.network(*(real * SCALE for real in reals)))
        return levels.permute(0, 2, 3, 1).contiguous().to(torch.uint8)


def levels_of(picture: Tensor) -> Tensor:
    """From 0.5 to 255.5, as float32: the nearest level once the fraction is cut off."""
    return torch.clamp(picture, 0, 1) * LEVELS + 0.5
