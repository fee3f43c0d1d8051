"""Choosing the range of every int8 activation by its error on calibration captures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor
from torch.fx import GraphModule

from quantize.observers import HIGHEST, LOWEST, ActivationQuantizer, activations
from quantize.recipe import Observer

Range = tuple[float, float]

TAILS = (1e-5, 1e-4, 1e-3)
"""Shares of the values that the percentile ranges leave outside, at each end."""
SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Factors on each end of the seen range that least squares tries."""


def settle_ranges(prepared: GraphModule, observer: Observer) -> dict[str, int]:
    """Gives every activation tensor of a calibrated graph its scale and zero point.

    ``min-max`` takes what was seen. ``least-error`` takes, tensor by tensor, the seen range, one
    that leaves outliers outside (``TAILS``), or a shrunken one (``SHRINKS``), whichever has the
    least squared error of rounding and clipping. Returns how often each kind was chosen.

    Raises:
        CalibrationError: a tensor that no calibration feed reached.
    """
    chosen: Counter[str] = Counter()
    for quantizer in activations(prepared):
        if quantizer.fixed is None and quantizer.reached:
            kind, span = _choose(quantizer, observer)
            quantizer.settle(*span)
            quantizer.forget()
            chosen[kind] += 1
        quantizer.calculate_qparams()
    return dict(chosen)


def _choose(quantizer: ActivationQuantizer, observer: Observer) -> tuple[str, Range]:
    seen = (quantizer.low, quantizer.high)
    if observer == "min-max":
        return "min-max", seen
    samples = quantizer.samples
    candidates = list(_candidates(samples, seen))
    return min(candidates, key=lambda candidate: squared_error(samples, candidate[1]))


def _candidates(samples: Tensor, seen: Range) -> Iterator[tuple[str, Range]]:
    yield "min-max", seen
    low, high = seen
    for tail in TAILS:
        below, above = torch.quantile(samples, torch.tensor([tail, 1 - tail])).tolist()
        yield "percentile", (below, above)
    for below, above in product(SHRINKS if low < 0 else (1.0,), SHRINKS):
        yield "least squares", (low * below, high * above)


def squared_error(samples: Tensor, span: Range) -> float:
    """Mean squared error of ``samples``, (n,), when int8 codes are spread over ``span``."""
    trial = ActivationQuantizer()
    trial.settle(*span)
    scale, zero_point = float(trial.scale), int(trial.zero_point)
    codes = torch.fake_quantize_per_tensor_affine(samples, scale, zero_point, LOWEST, HIGHEST)
    return float((codes - samples).square().mean())
