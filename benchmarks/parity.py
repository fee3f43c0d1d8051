"""Parity: does a file compute what the graph it was lowered from computes?

Every comparison is one hop of a chain, torch -> fused -> quantized graph -> runtime, and every
hop has its own budget, so that a lost decibel has an address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.mosaic import Mosaic, Tile
from benchmarks.verdict import Bar, Verdict, judge
from dfnet.capture import Image
from dfnet.errors import MetricError
from dfnet.metrics import psnr_db, residual_psnr_db, residual_snr_db, worst_tile
from dfnet.profiles import Precision
from dfnet.runner import Output
from dfnet.signature import OUTPUT

FUSED_BARS = (Bar("max_abs", "at most", 1e-5),)
"""Folding branches and norms only reorders float32 arithmetic."""

GRAPH_BARS: Mapping[Precision, tuple[Bar, ...]] = {
    Precision.W8: (Bar("worst_psnr_db", "at least", 50, "dB"),),
    Precision.W8A8: (Bar("psnr_db", "at least", 45, "dB"),),
    Precision.W8A16: (Bar("worst_psnr_db", "at least", 50, "dB"),),
}
"""What quantizing may cost against the fused network, measured on a trained one: 47 to 57 dB
for int8. Recipes without calibration lower the fused network itself."""

RUNTIME_BARS: Mapping[Precision, tuple[Bar, ...]] = {
    Precision.FP32: (Bar("worst_psnr_db", "at least", 100, "dB"),),
    Precision.FP16: (Bar("worst_psnr_db", "at least", 60, "dB"),),
    Precision.W8: (Bar("worst_psnr_db", "at least", 60, "dB"),),
    Precision.W8A8: (Bar("worst_psnr_db", "at least", 45, "dB"),),
    Precision.W8A16: (Bar("worst_psnr_db", "at least", 55, "dB"),),
}
"""What a runtime may differ from the graph it was given. float32 kernels reorder sums (measured
near 130 dB); w8 and w8a16 find the graph's weights again, so that float16 arithmetic or int16
activations are all that is left; int8 kernels may round single codes differently."""

LEVEL = 1 / 255
"""What one step of a byte is worth."""

_SHIFT_BAR = Bar("worst_shift", "at most", 0.2 * LEVEL)

BYTE_BARS: Mapping[Precision, tuple[Bar, ...]] = {
    Precision.FP32: (
        Bar("max_abs", "at most", 1.001 * LEVEL),
        Bar("worst_psnr_db", "at least", 70, "dB"),
        _SHIFT_BAR,
    ),
    Precision.FP16: (Bar("worst_psnr_db", "at least", 50, "dB"), _SHIFT_BAR),
    Precision.W8: (Bar("worst_psnr_db", "at least", 50, "dB"), _SHIFT_BAR),
    Precision.W8A8: (Bar("worst_psnr_db", "at least", 45, "dB"), _SHIFT_BAR),
}
"""The same for files that give bytes, against the graph's output in bytes: a difference too small
to see makes one pixel in thousands another level, and one level is 48 dB. Cutting the fraction off
instead of rounding stays within one level and at 51 dB, but makes every picture half a level
darker; rounding right was measured to move the mean by up to 0.04 of a level."""

GRAPH_GAP_BAR = Bar("graph_gap_db", "at most", 0.5, "dB")
"""How far the PSNR of an int8 file against the trained network may be from that of the quantized
graph it was lowered from. Runtimes round single codes differently, so their outputs differ by more
than that; what they lose must not."""

IDENTICAL_DB = 200.0
"""Equal outputs are written as this: JSON has no infinity, and float32 rounding alone limits
unequal ones to about 170 dB."""


@dataclass(frozen=True)
class TileParity:
    """One capture's visible rectangle: reference against candidate (see ``dfnet.metrics``).

    ``residual_snr_db`` falls to 0 when the change to the wide picture is lost, however good the
    PSNR; None where the reference changes nothing. ``shift`` is the mean of candidate minus
    reference. ``worst_tile_db`` is over 64x64 pixels.
    """

    capture: str
    target: str
    kind: str
    psnr_db: float
    residual_psnr_db: float
    residual_snr_db: float | None
    max_abs: float
    shift: float
    worst_tile_db: float


@dataclass(frozen=True)
class ParityResult:
    """One hop of the chain, scored on every capture and target, and its budget: the ``bars``."""

    reference: str
    candidate: str
    tiles: tuple[TileParity, ...]
    verdict: Verdict
    bars: tuple[Bar, ...]

    @property
    def figures(self) -> dict[str, float | None]:
        """Means and worst over captures and targets."""
        return _figures(self.tiles)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict.to_json(), "figures": self.figures}


def compare(
    mosaics: Sequence[Mosaic],
    references: Sequence[Image],
    candidates: Sequence[Image],
    *,
    names: tuple[str, str],
    bars: Sequence[Bar],
) -> ParityResult:
    """Compares outputs mosaic by mosaic; ``names`` are the reference's and the candidate's.

    Raises:
        MetricError: there is nothing to compare, or the sequences differ in length.
    """
    if not len(mosaics) == len(references) == len(candidates) > 0:
        raise MetricError(
            f"Parity of {names[1]}: got {len(candidates)} outputs for {len(references)} "
            f"references and {len(mosaics)} mosaics, needed as many of each, at least one."
        )
    tiles = tuple(
        _compare_tile(mosaic, tile, reference, candidate)
        for mosaic, reference, candidate in zip(mosaics, references, candidates, strict=True)
        for tile in mosaic.tiles
    )
    return ParityResult(*names, tiles, judge(_figures(tiles), bars), tuple(bars))


def in_bytes(outputs: Sequence[Image]) -> tuple[Image, ...]:
    """Outputs as an app would store them: clipped to [0, 1] and rounded half to even to 255ths."""
    levels = (np.rint(np.clip(one, 0, 1) * np.float32(255)) for one in outputs)
    return tuple((one / np.float32(255)).astype(np.float32) for one in levels)


def _compare_tile(mosaic: Mosaic, tile: Tile, reference: Image, candidate: Image) -> TileParity:
    expected, got = tile.crop(reference), tile.crop(candidate)
    wide = tile.crop(mosaic.feed["wide"])
    # A reference that leaves the wide picture as it is has no change to keep.
    changes = not np.array_equal(expected, wide)
    return TileParity(
        capture=tile.capture,
        target=mosaic.target,
        kind=str(mosaic.kind),
        psnr_db=finite_db(psnr_db(expected, got)),
        residual_psnr_db=finite_db(residual_psnr_db(expected, got, wide)),
        residual_snr_db=finite_db(residual_snr_db(expected, got, wide)) if changes else None,
        max_abs=float(np.abs(expected - got).max()),
        shift=float(np.mean(got - expected, dtype=np.float64)),
        worst_tile_db=finite_db(worst_tile(expected, got).psnr_db),
    )


def _figures(tiles: Sequence[TileParity]) -> dict[str, float | None]:
    ratios = [t.residual_snr_db for t in tiles if t.residual_snr_db is not None]
    return {
        "psnr_db": fmean(t.psnr_db for t in tiles),
        "worst_psnr_db": min(t.psnr_db for t in tiles),
        "residual_psnr_db": fmean(t.residual_psnr_db for t in tiles),
        "residual_snr_db": fmean(ratios) if ratios else None,
        "worst_residual_snr_db": min(ratios, default=None),
        "max_abs": max(t.max_abs for t in tiles),
        "worst_shift": max(abs(t.shift) for t in tiles),
        "worst_tile_db": min(t.worst_tile_db for t in tiles),
    }


def finite_db(decibels: float) -> float:
    """``decibels`` with infinity, the score of equal pictures, as ``IDENTICAL_DB``."""
    return min(decibels, IDENTICAL_DB)


def output_problem(output: Output, mosaic: Mosaic) -> str | None:
    """Why ``output`` must not be compared: missing, extra, ill-shaped or not finite; else None."""
    if set(output) != {OUTPUT}:
        return f"outputs {sorted(output)}, needed exactly {OUTPUT!r}"
    image = output[OUTPUT]
    if image.dtype != np.float32 or image.shape != mosaic.truth.shape:
        return f"output {image.dtype} {image.shape}, needed float32 {mosaic.truth.shape}"
    broken = int(image.size - np.isfinite(image).sum())
    if broken:
        return f"output holds {broken} values that are not finite (mosaic {mosaic.id})"
    return None
