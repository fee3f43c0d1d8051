"""Fills an artifact's fixed frame with captures, so that quality is measured at its resolution.

Captures are smaller than most frames. A mosaic lays them out row by row from the top left, in the
set's order, starting over when they run out, and crops at the right and bottom edges: twelve
256x256 captures fill the 768x1024 preview exactly. A frame too small to show every capture gets
several mosaics. Every pixel of a mosaic is scored, capture by capture, on its visible rectangle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from dfnet.capture import Capture, Image, Target, TargetKind
from dfnet.errors import CaptureError
from dfnet.profiles import Resolution
from dfnet.signature import INPUTS, Feed


@dataclass(frozen=True)
class Tile:
    """The visible rectangle, in pixels of the frame, of one capture's top left part."""

    capture: str
    top: int
    left: int
    height: int
    width: int

    def crop(self, image: Image) -> Image:
        """This rectangle of an NCHW image of the frame's size; a view."""
        return image[:, :, self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Mosaic:
    """One frame full of captures, all with the target of one name.

    ``id`` is unique among the mosaics of a capture set. ``truth`` is (1, 3, H, W) in [0, 1].
    """

    id: str
    target: str
    kind: TargetKind
    feed: Feed
    truth: Image
    tiles: tuple[Tile, ...]

    def part(self, tile: Tile) -> Capture:
        """What is visible of one capture, with this mosaic's target alone."""
        defocus, truth = tile.crop(self.feed["defocus_target"]), tile.crop(self.truth)
        return Capture(
            id=tile.capture,
            wide=tile.crop(self.feed["wide"]),
            ultrawide=tile.crop(self.feed["ultrawide"]),
            defocus_wide=tile.crop(self.feed["defocus_wide"]),
            defocus_ultrawide=tile.crop(self.feed["defocus_ultrawide"]),
            occlusion=tile.crop(self.feed["occlusion"]),
            targets=(Target(self.target, self.kind, defocus, truth),),
        )


def fill_frame(captures: Sequence[Capture], resolution: Resolution) -> tuple[Mosaic, ...]:
    """All mosaics of ``captures`` at ``resolution``: every target with a truth, every capture.

    Raises:
        CaptureError: no captures, no target with a truth, captures of different sizes, or one
            target name used for different kinds.
    """
    size = _common_size(captures)
    groups = _by_target(captures)
    across, down = (
        math.ceil(resolution.width / size.width),
        math.ceil(resolution.height / size.height),
    )
    mosaics = []
    for name, pairs in groups.items():
        pages = math.ceil(len(pairs) / (across * down))
        endless = cycle(pairs)
        for page in range(pages):
            cells = list(islice(endless, across * down))
            mosaics.append(_lay_out(f"{name}-{page}", cells, size, resolution, across))
    return tuple(mosaics)


_Pair = tuple[Capture, Target]


def _common_size(captures: Sequence[Capture]) -> Resolution:
    if not captures:
        raise CaptureError("Mosaic: got no captures, needed at least one.")
    sizes = {c.id: Resolution(*c.wide.shape[2:]) for c in captures}
    first = captures[0].id
    for id_, size in sizes.items():
        if size != sizes[first]:
            raise CaptureError(
                f"Capture {id_}: got {size}, needed {sizes[first]} like {first}. A mosaic takes "
                "captures of one size; crop them or keep them in separate sets."
            )
    return sizes[first]


def _by_target(captures: Sequence[Capture]) -> dict[str, list[_Pair]]:
    groups: dict[str, list[_Pair]] = {}
    for capture in captures:
        for target in capture.targets:
            if target.truth is not None:
                groups.setdefault(target.name, []).append((capture, target))
    if not groups:
        raise CaptureError(
            f"Captures {captures[0].id} to {captures[-1].id}: got no target with a true "
            "rendering, needed at least one to score against. Add truths to the capture set."
        )
    for name, pairs in groups.items():
        kinds = {target.kind for _, target in pairs}
        if len(kinds) > 1:
            raise CaptureError(
                f"Target {name!r}: got kinds {', '.join(sorted(kinds))}, needed one kind per "
                "target name. Rename the targets."
            )
    return groups


def _lay_out(
    id_: str, cells: list[_Pair], size: Resolution, frame: Resolution, across: int
) -> Mosaic:
    tiles = tuple(
        _visible(capture.id, *divmod(i, across), size, frame)
        for i, (capture, _) in enumerate(cells)
    )

    def paint(channels: int, picture: Callable[[_Pair], Image]) -> Image:
        canvas = np.empty((1, channels, frame.height, frame.width), np.float32)
        for tile, cell in zip(tiles, cells, strict=True):
            tile.crop(canvas)[...] = picture(cell)[:, :, : tile.height, : tile.width]
        return canvas

    feed = {spec.name: paint(spec.channels, _input(spec.name)) for spec in INPUTS}
    _, target = cells[0]
    return Mosaic(id_, target.name, target.kind, feed, paint(3, _truth), tiles)


def _visible(capture: str, row: int, column: int, size: Resolution, frame: Resolution) -> Tile:
    top, left = row * size.height, column * size.width
    height = min(size.height, frame.height - top)
    return Tile(capture, top, left, height, min(size.width, frame.width - left))


def _input(name: str) -> Callable[[_Pair], Image]:
    return lambda pair: pair[0].feed(pair[1])[name]


def _truth(pair: _Pair) -> Image:
    capture, target = pair
    if target.truth is None:
        raise CaptureError(f"Capture {capture.id}: target {target.name} has no true rendering.")
    return target.truth
