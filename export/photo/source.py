"""A capture folder of any size: its six pictures, decoded one after the other into plain files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from dfnet.artifact import sha256_of
from dfnet.capture import Image
from dfnet.capturefiles import decode_picture
from dfnet.errors import CaptureError
from dfnet.profiles import Resolution
from dfnet.signature import INPUTS, Feed
from export.photo.raw import Pixels, RawPicture

_TARGET = "defocus_target"
_MODES = {3: "RGB", 1: "L"}


@dataclass(frozen=True)
class PhotoCapture:
    """The six pictures of one photo by input name, as PNG files of one size."""

    files: Mapping[str, Path]
    size: Resolution

    def identity(self) -> dict[str, str]:
        """sha256 of each file."""
        return {name: sha256_of(path) for name, path in self.files.items()}


def find_capture(folder: Path, target: str | None) -> PhotoCapture:
    """The capture in ``folder`` with one of its targets; reads the pictures' headers only.

    Raises:
        CaptureError: a picture is missing, no PNG, or of another size or other channels; or which
            target is not clear.
    """
    chosen = _target(folder, target)
    files = {
        spec.name: chosen if spec.name == _TARGET else folder / f"{spec.name}.png"
        for spec in INPUTS
    }
    sizes = {spec.name: _size(files[spec.name], _MODES[spec.channels]) for spec in INPUTS}
    size = sizes["wide"]
    for name, other in sizes.items():
        if other != size:
            raise CaptureError(
                f"Picture {files[name]}: got {other} pixels, needed {size} like the wide picture. "
                "Align and resize it."
            )
    return PhotoCapture(files, size)


def _target(folder: Path, target: str | None) -> Path:
    found = {path.stem.removeprefix("target-"): path for path in folder.glob("target-*.png")}
    names = ", ".join(sorted(found))
    if target is None and len(found) != 1:
        raise CaptureError(
            f"Capture {folder}: got {len(found)} target maps{f' ({names})' if found else ''}, "
            + ("needed one. Choose with --target." if found else "needed a target-NAME.png.")
        )
    if target is not None and target not in found:
        raise CaptureError(
            f"Capture {folder}: got no target-{target}.png. "
            + (f"Choose --target from {names}." if found else "Add it; see docs/captures.md.")
        )
    return found[target] if target is not None else next(iter(found.values()))


def _size(path: Path, mode: str) -> Resolution:
    if not path.is_file():
        raise CaptureError(
            f"Picture {path} is missing, needed the six inputs of docs/captures.md. Add it."
        )
    try:
        with Pillow.open(path, formats=["PNG"]) as picture:
            got, (width, height) = picture.mode, picture.size
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        raise CaptureError(
            f"Picture {path}: cannot be read as PNG ({error}), needed a lossless picture."
        ) from error
    if got != mode:
        raise CaptureError(
            f"Picture {path}: got {got} pixels, needed {mode}. Save it as PNG with these channels."
        )
    return Resolution(height, width)


class DecodedCapture:
    """A capture's pictures as plain bytes in ``folder``; decoding is skipped where it was done."""

    def __init__(self, capture: PhotoCapture, folder: Path, tile: Resolution) -> None:
        size = capture.size
        self._pictures = {
            spec.name: RawPicture(
                folder / f"{spec.name}.raw", size.height, size.width, spec.channels
            )
            for spec in INPUTS
        }
        for spec in INPUTS:
            raw = self._pictures[spec.name]
            if not raw.path.exists():
                _decode(capture.files[spec.name], _MODES[spec.channels], raw.path)
        self._tile = tile

    def feed(self, top: int, left: int) -> Feed:
        """One tile's inputs."""
        return _Window(
            {
                name: picture.read(top, left, self._tile.height, self._tile.width)
                for name, picture in self._pictures.items()
            }
        )


class _Window(Mapping[str, Image]):
    """A feed that holds 8-bit pixels; an input is made float32 NCHW each time it is asked for.

    A runner copies its inputs one after the other, so a quarter of the memory is enough.
    """

    def __init__(self, pixels: dict[str, Pixels]) -> None:
        self._pixels = pixels

    def __getitem__(self, name: str) -> Image:
        pixels = self._pixels[name]
        image = np.empty((1, pixels.shape[2], *pixels.shape[:2]), np.float32)
        for channel in range(pixels.shape[2]):  # one at a time: numpy's temporaries stay small
            np.divide(pixels[:, :, channel], np.float32(255), out=image[0, channel])
        return image

    def __iter__(self) -> Iterator[str]:
        return iter(self._pixels)

    def __len__(self) -> int:
        return len(self._pixels)


def _decode(file: Path, mode: str, raw: Path) -> None:
    part = raw.with_suffix(".part")
    with part.open("wb") as stream:
        decode_picture(file, mode).tofile(stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, raw)
