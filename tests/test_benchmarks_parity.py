from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.mosaic import Mosaic, fill_frame
from benchmarks.parity import (
    BYTE_BARS,
    IDENTICAL_DB,
    RUNTIME_BARS,
    ParityResult,
    compare,
    in_bytes,
    output_problem,
)
from dfnet.capture import Capture
from dfnet.errors import MetricError
from dfnet.model import DFNet
from dfnet.profiles import Precision, Resolution
from dfnet.runner import Output
from dfnet.signature import OUTPUT
from dfnet.torch_runner import TorchRunner

from fakes import FakeRunner, noise_of


@pytest.fixture
def mosaics(captures: tuple[Capture, ...]) -> tuple[Mosaic, ...]:
    return fill_frame(captures, Resolution(128, 128))


def hop(
    network: DFNet, mosaics: tuple[Mosaic, ...], *, error_db: float, precision: Precision
) -> ParityResult:
    reference, candidate = TorchRunner(network), FakeRunner(network, error_db=error_db)
    return compare(
        mosaics,
        [reference.infer(mosaic.feed)[OUTPUT] for mosaic in mosaics],
        [candidate.infer(mosaic.feed)[OUTPUT] for mosaic in mosaics],
        names=("fused", "fake"),
        bars=RUNTIME_BARS[precision],
    )


@pytest.mark.parametrize(
    ("precision", "error_db", "passes"),
    [
        (Precision.FP32, 110, True),
        (Precision.FP32, 90, False),
        (Precision.FP16, 70, True),
        (Precision.FP16, 50, False),
        (Precision.W8A8, 50, True),
        (Precision.W8A8, 40, False),
    ],
)
def test_noise_beyond_the_precision_fails(
    tiny_network: DFNet,
    mosaics: tuple[Mosaic, ...],
    precision: Precision,
    error_db: float,
    passes: bool,
) -> None:
    result = hop(tiny_network, mosaics, error_db=error_db, precision=precision)
    assert result.verdict.is_passed is passes
    measured = result.figures["residual_psnr_db"]
    assert measured == pytest.approx(error_db, abs=0.5)


def bytes_hop(
    mosaics: tuple[Mosaic, ...], levels: list[npt.NDArray[np.float32]], precision: Precision
) -> ParityResult:
    """A file that gives ``levels`` where the graph gives pictures around the truth."""
    return compare(
        mosaics,
        in_bytes([real_output(mosaic) for mosaic in mosaics]),
        [one / np.float32(255) for one in levels],
        names=("fused", "fake"),
        bars=BYTE_BARS[precision],
    )


def real_output(mosaic: Mosaic) -> npt.NDArray[np.float32]:
    """Not of whole levels, and beyond [0, 1] in places."""
    return 1.2 * mosaic.truth - np.float32(0.0973)


@pytest.mark.parametrize("precision", BYTE_BARS)
def test_bytes_that_are_rounded_and_clipped_pass(
    mosaics: tuple[Mosaic, ...], precision: Precision
) -> None:
    rounded = [np.floor(np.clip(real_output(one), 0, 1) * 255 + 0.5) for one in mosaics]
    assert bytes_hop(mosaics, rounded, precision).verdict.is_passed


@pytest.mark.parametrize("precision", BYTE_BARS)
def test_bytes_whose_fraction_is_cut_off_fail(
    mosaics: tuple[Mosaic, ...], precision: Precision
) -> None:
    cut = [np.floor(np.clip(real_output(one), 0, 1) * 255) for one in mosaics]
    result = bytes_hop(mosaics, cut, precision)
    assert result.figures["max_abs"] == pytest.approx(1 / 255, rel=1e-4)
    assert "worst_shift" in str(result.verdict)


@pytest.mark.parametrize("precision", BYTE_BARS)
def test_bytes_that_wrap_around_fail(mosaics: tuple[Mosaic, ...], precision: Precision) -> None:
    wrapped = [np.rint(real_output(one) * 255) % 256 for one in mosaics]
    assert not bytes_hop(mosaics, wrapped, precision).verdict.is_passed


def test_equal_outputs_have_a_finite_score(
    tiny_network: DFNet, mosaics: tuple[Mosaic, ...]
) -> None:
    result = hop(tiny_network, mosaics, error_db=np.inf, precision=Precision.FP32)
    assert result.figures["psnr_db"] == IDENTICAL_DB
    assert result.figures["max_abs"] == 0
    assert result.verdict.is_passed


def test_a_lost_restoration_shows_in_the_residual_only(
    tiny_network: DFNet, mosaics: tuple[Mosaic, ...]
) -> None:
    wide = [mosaic.feed["wide"] for mosaic in mosaics]
    change = [noise_of(picture.shape, error_db=50) for picture in wide]
    restored = [picture + one for picture, one in zip(wide, change, strict=True)]
    lost = compare(
        mosaics, restored, wide, names=("fused", "fake"), bars=RUNTIME_BARS[Precision.W8A8]
    )
    assert lost.verdict.is_passed
    assert lost.figures["psnr_db"] == pytest.approx(50, abs=1)
    assert lost.figures["residual_snr_db"] == pytest.approx(0, abs=0.1)


def test_one_bad_tile_is_found(tiny_network: DFNet, mosaics: tuple[Mosaic, ...]) -> None:
    outputs = [TorchRunner(tiny_network).infer(m.feed)[OUTPUT] for m in mosaics]
    damaged = [output.copy() for output in outputs]
    damaged[0][:, :, :64, :64] = 0.5 * damaged[0][:, :, :64, :64]
    result = compare(
        mosaics, outputs, damaged, names=("fused", "fake"), bars=RUNTIME_BARS[Precision.FP32]
    )
    assert not result.verdict.is_passed
    bad = min(result.tiles, key=lambda tile: tile.psnr_db)
    assert (bad.capture, bad.target) == (mosaics[0].tiles[0].capture, mosaics[0].target)
    assert sum(tile.psnr_db < IDENTICAL_DB for tile in result.tiles) == 1


def test_a_reference_that_changes_nothing_has_no_residual(mosaics: tuple[Mosaic, ...]) -> None:
    wide = [mosaic.feed["wide"] for mosaic in mosaics]
    noisy = [picture + noise_of(picture.shape, error_db=50) for picture in wide]
    result = compare(
        mosaics, wide, noisy, names=("fused", "fake"), bars=RUNTIME_BARS[Precision.W8A8]
    )
    assert result.figures["residual_snr_db"] is None


def test_nothing_compared_is_an_error(mosaics: tuple[Mosaic, ...]) -> None:
    bars = RUNTIME_BARS[Precision.FP32]
    with pytest.raises(MetricError, match="at least one"):
        compare([], [], [], names=("fused", "fake"), bars=bars)
    truths = [mosaic.truth for mosaic in mosaics]
    with pytest.raises(MetricError, match="got 1 outputs for 2 references"):
        compare(mosaics, truths, truths[:1], names=("fused", "fake"), bars=bars)


def test_broken_outputs_are_named(mosaics: tuple[Mosaic, ...]) -> None:
    mosaic = mosaics[0]
    good = mosaic.truth
    spoilt = good.copy()
    spoilt[0, 0, 0, :2] = np.nan, np.inf
    assert output_problem({OUTPUT: good}, mosaic) is None
    cases: dict[str, Output] = {
        "needed exactly": {},
        "extra": {OUTPUT: good, "extra": good},
        "2 values that are not finite": {OUTPUT: spoilt},
        "(1, 3, 64, 128)": {OUTPUT: good[:, :, :64]},
        "float64": {OUTPUT: good.astype(np.float64)},
    }
    for words, output in cases.items():
        assert words in str(output_problem(output, mosaic))
