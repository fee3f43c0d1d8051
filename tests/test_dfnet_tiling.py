"""Tile plans: every pixel once, from a tile that saw all it depends on."""

import numpy as np
import pytest

from dfnet.errors import UnsupportedError
from dfnet.profiles import Resolution
from dfnet.reach import Halo, ReceptiveField
from dfnet.tiling import plan_tiles, smallest_tile

DFNETS = ReceptiveField(109, 109, 103, 103, 8, Halo(2, 104, 104), Halo(2, 104, 104))
SMALL = ReceptiveField(5, 3, 5, 3, 4, Halo(1, 8, 4), Halo(0, 4, 4))
POINT = ReceptiveField(0, 0, 0, 0, 1, Halo(0, 0, 0), Halo(0, 0, 0))


@pytest.mark.parametrize(
    ("photo", "tile", "field"),
    [
        (Resolution(3072, 4080), Resolution(1168, 856), DFNETS),
        (Resolution(100, 61), Resolution(20, 12), SMALL),
        (Resolution(37, 16), Resolution(16, 16), SMALL),
        (Resolution(30, 50), Resolution(7, 11), POINT),
    ],
)
def test_every_pixel_is_kept_once_from_a_tile_that_saw_its_field(
    photo: Resolution, tile: Resolution, field: ReceptiveField
) -> None:
    plan = plan_tiles(photo, tile, field)
    kept = np.zeros((photo.height, photo.width), int)
    for one in plan.tiles:
        kept[
            one.rows.keep_start : one.rows.keep_end, one.columns.keep_start : one.columns.keep_end
        ] += 1
    assert (kept == 1).all()
    axes = (
        (plan.rows, plan.frame.height, tile.height, field.rows),
        (plan.columns, plan.frame.width, tile.width, field.columns),
    )
    for spans, frame, size, halo in axes:
        for span in spans:
            assert span.start % field.alignment == 0
            assert span.start + size <= frame
            if span.start:
                assert span.keep_start - halo.cut - halo.before >= span.start
            if span.start + size < frame:
                assert span.keep_end - halo.cut + halo.after <= span.start + size


def test_a_12_megapixel_photo_is_within_the_bar() -> None:
    photo = Resolution(3072, 4080)
    tile = smallest_tile(photo, DFNETS, halo_ratio=1.45)
    assert tile == Resolution(1168, 856)
    assert plan_tiles(photo, tile, DFNETS).halo_ratio == pytest.approx(1.4358, abs=1e-4)
    assert plan_tiles(photo, Resolution(768, 1024), DFNETS).halo_ratio > 1.45


def test_the_photos_own_size_is_the_whole_frame() -> None:
    plan = plan_tiles(Resolution(95, 64), Resolution(96, 64), SMALL)
    assert plan.whole_frame
    assert plan.halo_ratio == pytest.approx(96 / 95)
    assert plan.rows[0].keep_end == 95


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        (Resolution(64, 66), "must be a multiple of 4"),
        (Resolution(104, 64), "none larger than the photo"),
        (Resolution(12, 64), "over 12 pixels a side"),
    ],
)
def test_a_tile_that_cannot_serve_is_refused(tile: Resolution, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        plan_tiles(Resolution(100, 80), tile, SMALL)


def test_no_tile_beats_the_whole_frame() -> None:
    with pytest.raises(UnsupportedError, match=r"at least the whole frame's, 1\.000"):
        smallest_tile(Resolution(96, 96), SMALL, halo_ratio=0.9)
