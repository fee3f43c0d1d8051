"""A Core ML package that takes and gives images: what an app has as CVPixelBuffer or CGImage.

They are RGB, or grayscale for maps. Core ML gives the program whole numbers from 0 to 255 and
takes such.
"""

from __future__ import annotations

from collections.abc import Sequence

import coremltools as ct
import torch
from torch import Tensor, nn

from dfnet.signature import INPUTS, OUTPUT
from export.stored import LEVELS, SCALE

_LAYOUTS = {3: ct.colorlayout.RGB, 1: ct.colorlayout.GRAYSCALE}


class LevelPictures(nn.Module):
    """``network``, taking and giving float32 NCHW pictures of the whole numbers from 0 to 255.

    The result is rounded here: how Core ML rounds what becomes an image is not documented.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        # Not eval(): the graphs torch.export makes refuse to change mode.
        self.training = False

    def forward(self, *pictures: Tensor) -> Tensor:
        picture = self.network(*(one * SCALE for one in pictures))
        return torch.round(torch.clamp(picture, 0, 1) * LEVELS)


def image_types(example: Sequence[Tensor]) -> tuple[list[ct.ImageType], list[ct.ImageType]]:
    """Coremltools' declarations of the inputs and of the output."""
    inputs = [
        ct.ImageType(spec.name, tuple(tensor.shape), color_layout=_LAYOUTS[spec.channels])
        for spec, tensor in zip(INPUTS, example, strict=True)
    ]
    return inputs, [ct.ImageType(OUTPUT, color_layout=_LAYOUTS[3])]
