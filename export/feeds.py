"""Checking a feed against the one resolution a file was built for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dfnet.errors import UnsupportedError
from dfnet.manifest import Manifest
from dfnet.signature import Feed, checked


def check_resolution(feed: Feed, manifest: Manifest) -> None:
    """Checks names, types and sizes.

    Raises:
        UnsupportedError: the feed breaks the signature, or has another resolution than the file.
    """
    for _ in checked_inputs(feed, manifest):
        pass


def checked_inputs(feed: Feed, manifest: Manifest) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """The inputs by name, each asked for once; raises as ``check_resolution`` does."""
    for name, array in checked(feed):
        height, width = array.shape[2:]
        if (height, width) != (manifest.resolution.height, manifest.resolution.width):
            raise UnsupportedError(
                f"{manifest.runtime} artifact: got inputs of {height}x{width}, needed "
                f"{manifest.resolution}. Resize them, or export with --resolution "
                f"{height}x{width}."
            )
        yield name, array
        del array
