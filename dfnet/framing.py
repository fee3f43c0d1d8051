"""Fitting a capture into the fixed frame of an exported file, without touching its pixels."""

from __future__ import annotations

import numpy as np

from dfnet.capture import Image
from dfnet.errors import UnsupportedError
from dfnet.profiles import Resolution
from dfnet.signature import Feed


def pad_to(feed: Feed, frame: Resolution) -> Feed:
    """``feed`` in the top left corner of ``frame``, mirrored into the rest.

    Nothing is scaled: blur radii in pixels, and so the defocus maps, keep their meaning.

    Raises:
        UnsupportedError: the pictures are larger than the frame.
    """
    size = Resolution(*feed["wide"].shape[2:])
    if size.height > frame.height or size.width > frame.width:
        raise UnsupportedError(
            f"Capture: got {size}, needed at most the file's {frame}. Export with --resolution "
            f"{size}, or use `python -m export.photo`, which works in tiles."
        )
    rest = ((0, 0), (0, 0), (0, frame.height - size.height), (0, frame.width - size.width))
    return {name: np.pad(image, rest, mode="symmetric") for name, image in feed.items()}


def crop_to(image: Image, size: Resolution) -> Image:
    """The top left ``size`` of an NCHW image: what ``pad_to`` put there."""
    return image[:, :, : size.height, : size.width]
