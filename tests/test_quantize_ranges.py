"""Which range an int8 activation gets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dfnet.errors import CalibrationError
from quantize.observers import LOWEST, ActivationQuantizer
from quantize.ranges import settle_ranges, squared_error
from quantize.recipe import Observer

from small_networks import chain_of


def normal(count: int = 4 * 65536) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(0))


def uniform(count: int = 4 * 65536) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(0)) * 2 - 1


def with_an_outlier() -> Tensor:
    values = normal()
    values[1000] = 100.0
    return values


DISTRIBUTIONS = {
    "uniform": uniform(),
    "normal": normal(),
    "rectified": normal().relu(),
    "negative": -normal().abs(),
    "Laplace": torch.where(uniform() > 0, -1.0, 1.0) * torch.log(uniform().abs() + 1e-6),
    "log-normal": normal().exp(),
    "one outlier": with_an_outlier(),
    "constant": torch.full((100,), 0.3),
}


def settled(values: Tensor, observer: Observer) -> tuple[ActivationQuantizer, dict[str, int]]:
    """A tensor that saw ``values`` in many feeds, and how its range was chosen."""
    quantizer = ActivationQuantizer()
    chain = chain_of(quantizer)
    for feed in values.chunk(32):
        chain(feed)
    return quantizer, settle_ranges(chain, observer)


def span(quantizer: ActivationQuantizer) -> tuple[float, float]:
    scale, zero_point = (float(tensor) for tensor in quantizer.calculate_qparams())
    return scale * (LOWEST - zero_point), scale * (LOWEST + 255 - zero_point)


def error(values: Tensor, observer: Observer) -> float:
    return squared_error(values, span(settled(values, observer)[0]))


def test_min_max_takes_what_was_seen() -> None:
    values = with_an_outlier()

    quantizer, chosen = settled(values, "min-max")

    step = float(quantizer.scale)
    seen = (float(values.min()), float(values.max()))
    assert span(quantizer) == pytest.approx(seen, abs=step)
    assert chosen == {"min-max": 1}


def test_least_error_leaves_one_huge_outlier_outside() -> None:
    quantizer, _ = settled(with_an_outlier(), "least-error")
    narrow, wide = span(quantizer), span(settled(with_an_outlier(), "min-max")[0])

    assert wide[1] > 95
    assert narrow[1] < 50
    assert squared_error(normal(), narrow) < 0.2 * squared_error(normal(), wide)


def test_least_error_is_min_max_where_all_values_are_alike() -> None:
    assert error(uniform(), "least-error") == pytest.approx(error(uniform(), "min-max"), rel=0.02)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_least_error_is_never_worse_than_min_max(name: str) -> None:
    values = DISTRIBUTIONS[name]

    # Ranges are chosen on samples and judged on everything but what they cannot show.
    usual = values[values.abs() < 50]
    chosen, seen = (span(settled(values, kind)[0]) for kind in ("least-error", "min-max"))
    assert squared_error(usual, chosen) <= 1.05 * squared_error(usual, seen) + 1e-12


def test_a_percentile_wins_where_an_end_is_much_farther_out_than_the_rest() -> None:
    quantizer, chosen = settled(with_an_outlier(), "least-error")

    assert chosen == {"percentile": 1}
    assert span(quantizer) == pytest.approx((-4, 4), abs=0.7)


def test_least_squares_wins_where_the_tails_are_long() -> None:
    assert settled(DISTRIBUTIONS["log-normal"], "least-error")[1] == {"least squares": 1}


@pytest.mark.parametrize("observer", ["min-max", "least-error"])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_zero_stays_within_the_range(name: str, observer: Observer) -> None:
    low, high = span(settled(DISTRIBUTIONS[name], observer)[0])

    assert low <= 0 <= high


def test_the_error_is_that_of_rounding_and_clipping() -> None:
    on_codes = torch.arange(256) / 255
    step = 1 / 255

    assert squared_error(on_codes, (0, 1)) == pytest.approx(0, abs=1e-12)
    assert squared_error(uniform().abs(), (0, 1)) == pytest.approx(step**2 / 12, rel=0.02)
    assert squared_error(torch.tensor([3.0]), (0, 1)) == pytest.approx(4)


@pytest.mark.parametrize("observer", ["min-max", "least-error"])
def test_fixed_ranges_are_left_and_not_counted(observer: Observer) -> None:
    fixed, measured = ActivationQuantizer(fixed=(1 / 256, LOWEST)), ActivationQuantizer()
    chain = chain_of(fixed, measured)
    chain(5 * normal(10_000))

    chosen = settle_ranges(chain, observer)

    assert fixed.scale.item() == 1 / 256
    assert sum(chosen.values()) == 1
    assert measured.scale.item() > 1 / 256


@pytest.mark.parametrize("observer", ["min-max", "least-error"])
def test_a_tensor_that_no_feed_reached_is_refused(observer: Observer) -> None:
    with pytest.raises(CalibrationError, match="no feed reached"):
        settle_ranges(chain_of(ActivationQuantizer()), observer)


def test_the_same_values_give_the_same_range_and_samples_are_dropped() -> None:
    (one, _), (other, _) = (settled(normal(), "least-error") for _ in range(2))

    assert torch.equal(one.scale, other.scale)
    assert len(one.samples) == 0
