"""Quality: what a file costs against the truth, compared with the float network it came from.

Everything is scored against true renderings: the wide picture as it came, the naive blend, the
float network, and the candidate. The drop is what the candidate loses to the float network; the
gain kept is how much of the float network's improvement over the wide picture survives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from benchmarks.mosaic import Mosaic, Tile
from benchmarks.parity import ParityResult, finite_db
from benchmarks.verdict import Bar, Verdict, judge
from dfnet.blend import naive_blend
from dfnet.capture import Capture, Image
from dfnet.errors import MetricError
from dfnet.metrics import gain_kept, psnr_db, region_scores, ssim, worst_tile
from dfnet.profiles import Precision
from quantize.recipe import Recipe

_INT8_BARS = (
    Bar("drop_db", "at most", 0.10, "dB"),
    Bar("gain_kept", "at least", 0.95),
    Bar("psnr_db", "at least", 48, "dB"),
)

_FULL_INT8_BARS = (
    Bar("drop_db", "at most", 0.30, "dB"),
    Bar("gain_kept", "at least", 0.85),
    Bar("psnr_db", "at least", 42, "dB"),
)


def _bars(drop_db: float, psnr_db: float) -> tuple[Bar, ...]:
    return (Bar("drop_db", "at most", drop_db, "dB"), Bar("psnr_db", "at least", psnr_db, "dB"))


PRECISION_BARS: Mapping[Precision, tuple[Bar, ...]] = {
    Precision.FP32: _bars(0.01, 90),
    Precision.FP16: _bars(0.02, 60),
    Precision.W8: _bars(0.05, 50),
    Precision.W8A8: _INT8_BARS,
    Precision.W8A16: _bars(0.05, 50),
}
"""What a file of a precision may cost: its drop against the truth, and its distance from the
float network (``psnr_db``, over both targets)."""

_FULL_INT8 = ("int8-full", "int8-full-naive")
RECIPE_BARS: Mapping[str, tuple[Bar, ...]] = dict.fromkeys(_FULL_INT8, _FULL_INT8_BARS)
"""Recipes that are known to cost more than their precision's bars: with everything int8, a trained
network was measured at 0.07 to 0.30 dB and 47 dB."""


SSIM_WINDOW_PX = 11
"""Smallest side that ``dfnet.metrics.ssim`` takes."""


@dataclass(frozen=True)
class TileQuality:
    """One capture's visible rectangle, in dB and SSIM against the truth.

    SSIM is None where the rectangle is smaller than its window. ``regions`` holds the candidate's
    and the float network's dB per region of the picture; a region that does not occur is absent.
    ``worst_tile_db`` is the candidate's worst 64x64 tile.
    """

    capture: str
    target: str
    kind: str
    input_db: float
    blend_db: float
    float_db: float
    candidate_db: float
    float_ssim: float | None
    candidate_ssim: float | None
    worst_tile_db: float
    regions: dict[str, dict[str, float]]

    @property
    def drop_db(self) -> float:
        """What the candidate loses to the float network; negative when it does better."""
        return self.float_db - self.candidate_db


@dataclass(frozen=True)
class QualityResult:
    """Float network and candidate, both against the truth, and the ``bars`` they were held to."""

    tiles: tuple[TileQuality, ...]
    verdict: Verdict
    bars: tuple[Bar, ...]

    @property
    def figures(self) -> dict[str, float | None]:
        """Over all captures and targets."""
        return figures_of(self.tiles)

    @property
    def splits(self) -> dict[str, dict[str, float | None]]:
        """The same figures per kind of target."""
        kinds = dict.fromkeys(tile.kind for tile in self.tiles)
        return {kind: figures_of([t for t in self.tiles if t.kind == kind]) for kind in kinds}

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict.to_json(), "regions": self._regions()}

    def _regions(self) -> dict[str, dict[str, float]]:
        names = dict.fromkeys(name for tile in self.tiles for name in tile.regions)
        means: dict[str, dict[str, float]] = {}
        for name in names:
            rows = [tile.regions[name] for tile in self.tiles if name in tile.regions]
            means[name] = {key: fmean(row[key] for row in rows) for key in rows[0]}
        return means


def score(
    mosaics: Sequence[Mosaic],
    floats: Sequence[Image],
    candidates: Sequence[Image],
    *,
    parity: ParityResult,
    recipe: Recipe,
) -> QualityResult:
    """Scores the float network's and the candidate's outputs against the mosaics' truths.

    ``parity`` is the candidate against the float network on the same mosaics; its figures are
    held to the recipe's bars together with the quality's.

    Raises:
        MetricError: there is nothing to score, or the sequences differ in length.
    """
    if not len(mosaics) == len(floats) == len(candidates) > 0:
        raise MetricError(
            f"Quality: got {len(candidates)} outputs and {len(floats)} float outputs for "
            f"{len(mosaics)} mosaics, needed as many of each, at least one."
        )
    tiles = tuple(
        _score_tile(mosaic, tile, tile.crop(reference), tile.crop(candidate))
        for mosaic, reference, candidate in zip(mosaics, floats, candidates, strict=True)
        for tile in mosaic.tiles
    )
    figures = {**parity.figures, **figures_of(tiles)}
    # Where the float network gains too little, a share of its gain means nothing.
    judged = tuple(
        b for b in bars_for(recipe) if b.figure != "gain_kept" or figures[b.figure] is not None
    )
    return QualityResult(tiles, judge(figures, judged), judged)


def bars_for(recipe: Recipe) -> tuple[Bar, ...]:
    """What a file of ``recipe`` is held to."""
    return RECIPE_BARS.get(recipe.name, PRECISION_BARS[recipe.precision])


def _score_tile(mosaic: Mosaic, tile: Tile, reference: Image, candidate: Image) -> TileQuality:
    part = mosaic.part(tile)
    truth = tile.crop(mosaic.truth)
    large_enough = min(tile.height, tile.width) >= SSIM_WINDOW_PX
    return TileQuality(
        capture=tile.capture,
        target=mosaic.target,
        kind=str(mosaic.kind),
        input_db=finite_db(psnr_db(truth, part.wide)),
        blend_db=finite_db(psnr_db(truth, naive_blend(part, part.targets[0]))),
        float_db=finite_db(psnr_db(truth, reference)),
        candidate_db=finite_db(psnr_db(truth, candidate)),
        float_ssim=ssim(truth, reference) if large_enough else None,
        candidate_ssim=ssim(truth, candidate) if large_enough else None,
        worst_tile_db=finite_db(worst_tile(truth, candidate).psnr_db),
        regions=_regions(part, truth, reference, candidate),
    )


def _regions(
    part: Capture, truth: Image, reference: Image, candidate: Image
) -> dict[str, dict[str, float]]:
    # The same masks decide both, so a region occurs in both or in neither.
    pairs = {
        name: (of_float, of_candidate)
        for (name, of_float), of_candidate in zip(
            region_scores(truth, reference, part).items(),
            region_scores(truth, candidate, part).values(),
            strict=True,
        )
    }
    return {
        name: {"float_db": finite_db(of_float), "candidate_db": finite_db(of_candidate)}
        for name, (of_float, of_candidate) in pairs.items()
        if of_float is not None and of_candidate is not None
    }


def figures_of(tiles: Sequence[TileQuality]) -> dict[str, float | None]:
    """Means over ``tiles``, and the worst drop; SSIM over the tiles that have one."""
    similar = [t.candidate_ssim for t in tiles if t.candidate_ssim is not None]
    of_float = [t.float_ssim for t in tiles if t.float_ssim is not None]
    drops = [t.drop_db for t in tiles]
    scores = [[getattr(t, name) for t in tiles] for name in _SCORES]
    of_input, _, float_db, candidate_db = scores
    return {
        **{name: fmean(values) for name, values in zip(_SCORES, scores, strict=True)},
        "drop_db": fmean(drops),
        "worst_drop_db": max(drops),
        "gain_kept": gain_kept(of_input, float_db, candidate_db),
        "ssim": fmean(similar) if similar else None,
        "float_ssim": fmean(of_float) if of_float else None,
        "worst_truth_tile_db": min(t.worst_tile_db for t in tiles),
    }


_SCORES = ("input_db", "blend_db", "float_db", "candidate_db")
