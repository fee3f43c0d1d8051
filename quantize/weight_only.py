"""Weights that are int8 in value and float in type, for recipes whose activations are not int8.

A runtime's SDK rounds such a network's weights itself, to nearest, with the largest weight of an
output channel at code 127. Weights that lie on that grid already, with the largest where it was,
are found again by any such rounding.
"""

from __future__ import annotations

import copy

from torch import nn

from dfnet.captureset import CaptureSet
from dfnet.profiles import Precision
from quantize.calibrate import calibrate
from quantize.compensate import compensate_rounding
from quantize.crops import cut_crops
from quantize.prepare import prepare
from quantize.program import Calibration
from quantize.ranges import settle_ranges
from quantize.recipe import Recipe

CROPS = 128
"""Crops of calibration captures whose second moments decide how weights are rounded."""
_EVERYTHING = Recipe("weights", Precision.W8A8, observer="min-max")


def compensate_weights(network: nn.Module, captures: CaptureSet) -> tuple[nn.Module, Calibration]:
    """A copy of ``network`` with weights rounded by ``quantize.compensate``, and what calibrated
    it. Activations stay float throughout.

    Raises:
        UnsupportedError: see ``quantize.ptq.quantize``.
        CalibrationError: see ``quantize.calibrate.calibrate``.
    """
    # The traced graph holds the parameters of this copy, and they are rounded in place.
    rounded = copy.deepcopy(network)
    prepared = prepare(rounded, _EVERYTHING)
    facts = calibrate(prepared, captures)
    settle_ranges(prepared, "min-max")
    compensate_rounding(prepared, cut_crops(captures, CROPS), keep_largest=True)
    return rounded, facts
