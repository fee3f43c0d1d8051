"""A float network that a runtime's SDK quantizes by its own defaults while it lowers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from dfnet.captureset import CaptureSet
from dfnet.errors import CalibrationError
from dfnet.profiles import Resolution
from dfnet.signature import Feed
from quantize.calibrate import calibrate, calibration_feeds
from quantize.program import Calibration
from quantize.recipe import Recipe


@dataclass(frozen=True)
class SdkProgram:
    """A float network, and the captures an SDK may calibrate with.

    ``module`` is the float network, because what the SDK makes of it exists in its file alone:
    the file is compared with the float network. All captures have one ``size``.
    """

    recipe: Recipe
    network: nn.Module
    captures: CaptureSet
    size: Resolution
    calibration: Calibration | None

    def module(self, *, fold_weights: bool = True) -> nn.Module:
        """A copy of the network; ``fold_weights`` changes nothing here."""
        return copy.deepcopy(self.network)

    def feeds(self) -> Iterator[Feed]:
        """The feeds that calibrate every other recipe too, in the same order, at ``size``."""
        return (capture.feed(target) for capture, target in calibration_feeds(self.captures))


def sdk_program(network: nn.Module, recipe: Recipe, captures: CaptureSet) -> SdkProgram:
    """Checks the captures as for any recipe; the network is neither run nor changed.

    Raises:
        CalibrationError: see ``quantize.calibrate.calibrate``; or captures of several sizes,
            which a file of one size cannot be calibrated with.
    """
    sizes = _Sizes()
    calibration = calibrate(sizes, captures)
    if len(sizes.seen) != 1:
        raise CalibrationError(
            f"Recipe {recipe.name}: got calibration captures of "
            f"{', '.join(map(str, sorted(sizes.seen)))}, needed one size, because an SDK "
            "calibrates a file of one size. Give captures of one size."
        )
    return SdkProgram(recipe, copy.deepcopy(network), captures, sizes.seen.pop(), calibration)


class _Sizes(nn.Module):
    """Takes the place of a graph with observers in ``calibrate``: notes the inputs' sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[Resolution] = set()

    def forward(self, *inputs: torch.Tensor) -> None:
        height, width = inputs[0].shape[2:]
        self.seen.add(Resolution(height, width))
