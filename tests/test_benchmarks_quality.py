from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.mosaic import Mosaic, fill_frame
from benchmarks.parity import compare
from benchmarks.quality import QualityResult, bars_for, score
from dfnet.capture import Capture, Image
from dfnet.errors import MetricError
from dfnet.profiles import Resolution
from quantize.recipe import Recipe, find_recipe

from fakes import noise_of

INT8 = find_recipe("int8")


@pytest.fixture
def mosaics(captures: tuple[Capture, ...]) -> tuple[Mosaic, ...]:
    return fill_frame(captures, Resolution(64, 192))


def restored(mosaics: Sequence[Mosaic], *, error_db: float) -> list[Image]:
    """A network that restores the truth but for noise."""
    return [m.truth + noise_of(m.truth.shape, error_db=error_db) for m in mosaics]


def quality(
    mosaics: Sequence[Mosaic],
    floats: Sequence[Image],
    candidates: Sequence[Image],
    recipe: Recipe = INT8,
) -> QualityResult:
    bars = [bar for bar in bars_for(recipe) if bar.figure == "psnr_db"]
    parity = compare(mosaics, floats, candidates, names=("torch", "fake"), bars=bars)
    return score(mosaics, floats, candidates, parity=parity, recipe=recipe)


def test_an_equal_candidate_drops_nothing(mosaics: tuple[Mosaic, ...]) -> None:
    floats = restored(mosaics, error_db=35)
    result = quality(mosaics, floats, floats)
    assert result.verdict.is_passed
    assert result.figures["drop_db"] == 0
    assert result.figures["gain_kept"] == pytest.approx(1)
    assert set(result.splits) == {"all-in-focus", "refocus"}


def test_a_candidate_as_poor_as_the_input_keeps_no_gain(mosaics: tuple[Mosaic, ...]) -> None:
    floats = restored(mosaics, error_db=45)
    result = quality(mosaics, floats, [mosaic.feed["wide"] for mosaic in mosaics])
    assert not result.verdict.is_passed
    assert result.figures["gain_kept"] == pytest.approx(0, abs=1e-6)
    assert "gain_kept" in str(result.verdict.reason)


def test_drop_is_mean_and_worst_over_captures(mosaics: tuple[Mosaic, ...]) -> None:
    floats = restored(mosaics, error_db=40)
    candidates = [image.copy() for image in floats]
    tile = mosaics[0].tiles[1]
    tile.crop(candidates[0])[...] += noise_of((1, 3, 64, 64), error_db=30)
    result = quality(mosaics, floats, candidates)
    drops = {(t.capture, t.target): t.drop_db for t in result.tiles}
    worst = drops.pop((tile.capture, mosaics[0].target))
    assert worst > 5
    assert set(drops.values()) == {0.0}
    assert result.figures["worst_drop_db"] == worst
    assert result.figures["drop_db"] == pytest.approx(worst / (len(drops) + 1))
    assert not result.verdict.is_passed


def test_gain_is_not_judged_when_the_float_network_gains_nothing(
    mosaics: tuple[Mosaic, ...],
) -> None:
    wide = [mosaic.feed["wide"] for mosaic in mosaics]
    result = quality(mosaics, wide, wide)
    assert result.figures["gain_kept"] is None
    assert result.verdict.is_passed
    spoilt = [picture + noise_of(picture.shape, error_db=25) for picture in wide]
    assert not quality(mosaics, wide, spoilt).verdict.is_passed


def test_a_rectangle_smaller_than_the_ssim_window_has_no_ssim(
    captures: tuple[Capture, ...],
) -> None:
    mosaics = fill_frame(captures, Resolution(64, 64 + 8))
    floats = restored(mosaics, error_db=40)
    result = quality(mosaics, floats, floats)
    narrow = [tile for tile in result.tiles if tile.candidate_ssim is None]
    assert narrow
    assert len(narrow) < len(result.tiles)
    assert result.figures["ssim"] is not None


def test_regions_are_scored_for_both(mosaics: tuple[Mosaic, ...]) -> None:
    floats = restored(mosaics, error_db=40)
    regions = quality(mosaics, floats, restored(mosaics, error_db=30)).tiles[0].regions
    assert {"in_focus", "defocused", "occluded"} & set(regions)
    for scores in regions.values():
        assert scores["candidate_db"] < scores["float_db"]


def test_baselines_are_scored_too(mosaics: tuple[Mosaic, ...]) -> None:
    floats = restored(mosaics, error_db=40)
    tile = quality(mosaics, floats, floats).tiles[0]
    assert 0 < tile.input_db < tile.float_db
    assert tile.blend_db > 0


def test_an_unnamed_recipe_is_held_to_its_precisions_bars() -> None:
    mine = replace(INT8, name="mine", keep_float=("head",))
    assert bars_for(mine) == bars_for(INT8)
    assert bars_for(find_recipe("int8-full")) != bars_for(INT8)


def test_nothing_scored_is_an_error(mosaics: tuple[Mosaic, ...]) -> None:
    floats = restored(mosaics, error_db=40)
    parity = compare(mosaics, floats, floats, names=("torch", "fake"), bars=bars_for(INT8)[2:])
    with pytest.raises(MetricError, match="at least one"):
        score([], [], [], parity=parity, recipe=INT8)
    with pytest.raises(MetricError, match="got 1 outputs"):
        score(mosaics, floats, floats[:1], parity=parity, recipe=INT8)


def test_overshoot_is_clipped_before_scoring(mosaics: tuple[Mosaic, ...]) -> None:
    white = [np.ones_like(mosaic.truth) for mosaic in mosaics]
    over = [picture * np.float32(1.5) for picture in white]
    assert quality(mosaics, white, over).figures["drop_db"] == 0
