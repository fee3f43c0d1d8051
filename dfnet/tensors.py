"""A network's named inputs as torch tensors.

Apart from ``dfnet.signature``, so that what only runs an exported file does not load torch.
"""

from __future__ import annotations

import numpy as np
import torch

from dfnet.profiles import Resolution
from dfnet.signature import INPUTS, Feed, check_feed


def feed_tensors(feed: Feed) -> tuple[torch.Tensor, ...]:
    """``feed`` as contiguous tensors in ``INPUTS`` order.

    Raises:
        UnsupportedError: an input is missing, unknown, or has the wrong dtype or shape.
    """
    check_feed(feed)
    # A permuted (channels-last) example makes ExecuTorch bake in that memory format and then
    # silently misread contiguous inputs, hence the copy.
    return tuple(torch.from_numpy(np.ascontiguousarray(feed[spec.name])) for spec in INPUTS)


def example_inputs(resolution: Resolution, *, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Seeded uniform [0, 1] contiguous float32 tensors in ``INPUTS`` order, for tracing."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.rand(1, spec.channels, resolution.height, resolution.width, generator=generator)
        for spec in INPUTS
    )
