"""Small pieces of calibration captures: what ranges, weights and sensitivity are judged on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dfnet.captureset import CaptureSet
from dfnet.signature import INPUTS, STRIDE
from dfnet.tensors import feed_tensors
from quantize.calibrate import calibration_feeds

SIDE_PX = 128
"""Height and width of a crop; a smaller capture is taken whole."""

_NAMES = [spec.name for spec in INPUTS]

Crop = tuple[Tensor, ...]
"""Tensors of ``dfnet.signature.INPUTS`` in order, each (1, C, H, W) float32."""


def cut_crops(captures: CaptureSet, count: int, *, seed: int = 0) -> tuple[Crop, ...]:
    """``count`` crops spread evenly over the calibration feeds, at random places.

    Every second crop is varied, because the few feeds that a set offers leave ranges too narrow
    for the rest of what users do: it asks for a constant blur, for the map of another crop, for
    its own made weaker or stronger, or has its wide picture replaced by the sharper ultra-wide one.
    The same captures, count and seed give the same crops.

    Raises:
        CalibrationError: see ``quantize.calibrate.calibration_feeds``.
    """
    chosen = torch.Generator().manual_seed(seed)
    feeds = 3 * len(captures)
    shares = [count * (i + 1) // feeds - count * i // feeds for i in range(feeds)]
    crops: list[Crop] = []
    for share, (capture, target) in zip(shares, calibration_feeds(captures), strict=True):
        if share:
            inputs = feed_tensors(capture.feed(target))
            crops.extend(_crop(inputs, chosen) for _ in range(share))
    return tuple(
        _vary(crop, crops, chosen) if index % 2 else crop for index, crop in enumerate(crops)
    )


def _vary(crop: Crop, crops: Sequence[Crop], chosen: torch.Generator) -> Crop:
    """``crop`` with another target map, or with a wide picture that is sharp almost everywhere."""
    kind, place = (int(torch.randint(n, (1,), generator=chosen)) for n in (4, len(crops)))
    amount = float(torch.rand(1, generator=chosen))
    named = dict(zip(_NAMES, crop, strict=True))
    own, other = named["defocus_target"], crops[place][_NAMES.index("defocus_target")]
    if kind == 0:
        named["defocus_target"] = torch.full_like(own, amount)
    elif kind == 1:
        named["defocus_target"] = (own * 2 * amount).clamp(max=1)
    else:
        named["defocus_target"] = other if other.shape == own.shape else own
    if kind == 3:
        named["wide"] = named["ultrawide"]
        named["defocus_wide"] = named["defocus_ultrawide"]
    return tuple(named.values())


def _crop(inputs: Sequence[Tensor], chosen: torch.Generator) -> Crop:
    height, width = inputs[0].shape[2:]
    top, left = (_place(size, chosen) for size in (height, width))
    return tuple(x[:, :, top : top + SIDE_PX, left : left + SIDE_PX].contiguous() for x in inputs)


def _place(size: int, chosen: torch.Generator) -> int:
    last = max(size - SIDE_PX, 0) // STRIDE
    return STRIDE * int(torch.randint(last + 1, (1,), generator=chosen))
