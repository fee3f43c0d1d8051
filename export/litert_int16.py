"""16-bit activations for LiteRT: a float network and the ranges its activations reach."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from dfnet.captureset import CaptureSet
from dfnet.errors import UnsupportedError
from dfnet.profiles import Resolution
from dfnet.signature import INPUTS
from export.litert_convert import SIGNATURE, convert
from export.litert_quantizer import RangeMeter, Ranges, merge_ranges
from quantize.calibrate import calibrate
from quantize.program import Calibration
from quantize.recipe import Recipe
from quantize.weight_only import compensate_weights


@dataclass(frozen=True)
class Int16Program:
    """A float network with the activation ranges that make its file int16.

    ``module`` is the network with float activations and the weights the file will have: torch has
    no simulation of 16-bit activations here.
    """

    recipe: Recipe
    network: nn.Module
    ranges: Ranges
    calibration: Calibration | None

    def module(self, *, fold_weights: bool = True) -> nn.Module:
        """A copy of the network; ``fold_weights`` changes nothing here."""
        return copy.deepcopy(self.network)


def calibrate_int16(network: nn.Module, recipe: Recipe, captures: CaptureSet) -> Int16Program:
    """Measures ranges on ``network`` lowered at the captures' own size, over the same feeds that
    calibrate every other recipe.

    Raises:
        UnsupportedError: the recipe keeps parts float, or the network cannot be converted.
        CalibrationError: see ``quantize.calibrate.calibrate``.
    """
    if recipe.keep_float or recipe.float_image_path:
        raise UnsupportedError(
            f"Recipe {recipe.name}: got parts to keep float, needed none for LiteRT with int16 "
            "activations, where float parts gain nothing. Drop them from the recipe."
        )
    rounded = compensate_weights(network, captures)[0] if recipe.compensate else network
    meters = _MetersBySize(rounded)
    calibration = calibrate(meters, captures)
    return Int16Program(recipe, copy.deepcopy(rounded), meters.ranges(), calibration)


class _MetersBySize(nn.Module):
    """Takes the place of a graph with observers in ``calibrate``: a float file per input size."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network
        self._meters: dict[Resolution, RangeMeter] = {}

    def forward(self, *inputs: torch.Tensor) -> None:
        height, width = inputs[0].shape[2:]
        resolution = Resolution(height, width)
        if resolution not in self._meters:
            model = convert(self._network, resolution)
            self._meters[resolution] = RangeMeter(model, signature=SIGNATURE)
        names = (spec.name for spec in INPUTS)
        self._meters[resolution].add(
            {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        )

    def ranges(self) -> Ranges:
        return merge_ranges(meter.ranges() for meter in self._meters.values())
