"""Cutting a photo into tiles whose results are those of the whole frame.

Tiles start at multiples of the network's alignment, so that it computes them as it computes the
frame. A tile that lies at the photo's border ends there, so that the network's own padding is
where the whole frame has it. Everywhere else only pixels are kept that see nothing beyond their
tile: seams need no blending.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dfnet.errors import UnsupportedError
from dfnet.profiles import Resolution
from dfnet.reach import Halo, ReceptiveField


@dataclass(frozen=True)
class Span:
    """Along one axis: a tile's first pixel, and which of the frame's pixels are kept from it."""

    start: int
    keep_start: int
    keep_end: int


@dataclass(frozen=True)
class Tile:
    """One inference: its place in the frame, and the part of it that is kept."""

    rows: Span
    columns: Span


@dataclass(frozen=True)
class TilePlan:
    """How a ``photo`` is covered by tiles of one size.

    ``frame`` is the photo with its bottom and right edge repeated up to the network's alignment;
    those pixels are computed with and not kept.
    """

    photo: Resolution
    frame: Resolution
    tile: Resolution
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def tiles(self) -> tuple[Tile, ...]:
        return tuple(Tile(rows, columns) for rows in self.rows for columns in self.columns)

    @property
    def whole_frame(self) -> bool:
        return len(self.rows) == len(self.columns) == 1

    @property
    def halo_ratio(self) -> float:
        """Pixels computed over pixels of the photo."""
        computed = len(self.rows) * len(self.columns) * self.tile.height * self.tile.width
        return computed / (self.photo.height * self.photo.width)


def plan_tiles(photo: Resolution, tile: Resolution, field: ReceptiveField) -> TilePlan:
    """The fewest tiles of the size ``tile`` that give ``photo`` as the whole frame would.

    Raises:
        UnsupportedError: the tile is not aligned, larger than the photo, or no larger than what
            its pixels must see around themselves.
    """
    tile.require_multiple_of(field.alignment)
    frame = Resolution(*(_aligned(n, field.alignment) for n in (photo.height, photo.width)))
    if tile.height > frame.height or tile.width > frame.width:
        raise UnsupportedError(
            f"Photo {photo}: got tiles of {tile}, needed none larger than the photo. Export with "
            f"--resolution {frame} or smaller."
        )
    try:
        rows = tuple(_spans(photo.height, frame.height, tile.height, field.rows))
        columns = tuple(_spans(photo.width, frame.width, tile.width, field.columns))
    except _TooSmallError as error:
        raise UnsupportedError(
            f"Photo {photo}: got tiles of {tile}, needed over {error} pixels a side, which is what "
            "the network sees. Export with a larger --resolution."
        ) from None
    return TilePlan(photo, frame, tile, rows, columns)


def smallest_tile(photo: Resolution, field: ReceptiveField, *, halo_ratio: float) -> Resolution:
    """The tile of fewest pixels, hence least memory, whose plan stays within ``halo_ratio``.

    Raises:
        UnsupportedError: ``halo_ratio`` is less than the whole frame's, which is about 1.
    """
    step = field.alignment
    frame = Resolution(*(_aligned(n, step) for n in (photo.height, photo.width)))
    counts = [
        _sizes_by_count(length, halo, step)
        for length, halo in ((frame.height, field.rows), (frame.width, field.columns))
    ]
    most = halo_ratio * photo.height * photo.width
    fitting = [
        Resolution(height, width)
        for down, height in counts[0].items()
        for across, width in counts[1].items()
        if down * height * across * width <= most
    ]
    if not fitting:
        raise UnsupportedError(
            f"Photo {photo}: got a halo ratio of {halo_ratio:g}, needed at least the whole "
            f"frame's, {frame.height * frame.width / (photo.height * photo.width):.3f}."
        )
    return min(fitting, key=lambda tile: tile.height * tile.width)


class _TooSmallError(Exception):
    """The least size of a tile along one axis."""


def _aligned(length: int, step: int) -> int:
    return -(-length // step) * step


def _spans(length: int, frame: int, tile: int, halo: Halo) -> Iterator[Span]:
    step = tile - halo.before - halo.after
    if step <= 0 and tile < frame:
        raise _TooSmallError(halo.before + halo.after)
    start = keep_start = 0
    while start + tile < frame:
        following = min(start + step, frame - tile)
        keep_end = following + halo.before + halo.cut
        yield Span(start, keep_start, keep_end)
        start, keep_start = following, keep_end
    yield Span(start, keep_start, length)


def _sizes_by_count(frame: int, halo: Halo, step: int) -> dict[int, int]:
    """The smallest tile along one axis for every number of tiles that covers ``frame``."""
    sizes = {}
    for tile in range(frame, halo.before + halo.after, -step):
        moves = tile - halo.before - halo.after
        sizes[1 + -(-(frame - tile) // moves)] = tile
    return sizes
