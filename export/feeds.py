"""Checking a feed against the one resolution a file was built for."""

from __future__ import annotations

from dfnet.errors import UnsupportedError
from dfnet.manifest import Manifest
from dfnet.signature import Feed, check_feed


def check_resolution(feed: Feed, manifest: Manifest) -> None:
    """Checks names, types and sizes.

    Raises:
        UnsupportedError: the feed breaks the signature, or has another resolution than the file.
    """
    check_feed(feed)
    height, width = feed["wide"].shape[2:]
    if (height, width) != (manifest.resolution.height, manifest.resolution.width):
        raise UnsupportedError(
            f"{manifest.runtime} artifact: got inputs of {height}x{width}, needed "
            f"{manifest.resolution}. Resize them, or export with --resolution {height}x{width}."
        )
