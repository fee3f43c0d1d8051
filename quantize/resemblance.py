"""Whether an int8 graph still does what its float self does."""

from __future__ import annotations

import logging

import torch
from torch import nn

from dfnet.captureset import CaptureSet
from dfnet.errors import CalibrationError
from dfnet.signature import INPUTS
from dfnet.tensors import feed_tensors
from quantize.program import Program

log = logging.getLogger(__name__)

MAX_LOST_SHARE = 0.5
"""Error energy over the energy of what the network adds to the wide picture.

Measured on the reference DFNet: 0.005 (int8) and 0.009 (int8-full) with sound ranges, 0.53 with
int8 ranges five times too small. Ranges half too small read 0.08 in int8 and pass: this refuses
wreckage, and the quality bars judge the rest.
"""

_ONE_CODE = 1 / 255
"""Root-mean-square error that passes whatever the network adds: one step of an 8-bit picture."""
_RESEMBLANCE_FEEDS = 4

_WIDE = [spec.name for spec in INPUTS].index("wide")


def require_resemblance(network: nn.Module, program: Program, captures: CaptureSet) -> None:
    """Refuses ranges that destroy the restoration.

    A network's output is mostly its wide input, so PSNR alone would pass an int8 graph that
    restores nothing: the error is compared with what the network adds, on a few calibration feeds.

    Raises:
        CalibrationError: the int8 graph does not resemble its float self.
    """
    added = error = 0.0
    module = program.module()
    feeds = [c.feed(c.targets[0]) for c in map(captures.load, captures.ids[:_RESEMBLANCE_FEEDS])]
    with torch.no_grad():
        for inputs in map(feed_tensors, feeds):
            reference, candidate = network(*inputs), module(*inputs)
            added += float((reference - inputs[_WIDE]).square().mean()) / len(feeds)
            error += float((candidate - reference).square().mean()) / len(feeds)
    log.info(
        "Recipe %s: int8 error %.5f rms where the network adds %.5f rms (%d calibration feeds)",
        program.recipe.name,
        error**0.5,
        added**0.5,
        len(feeds),
    )
    # Written so that NaN fails too.
    if not error <= max(added * MAX_LOST_SHARE, _ONE_CODE**2):
        raise CalibrationError(
            f"Recipe {program.recipe.name}: the int8 graph errs by {error**0.5:.4f} rms where the "
            f"network adds {added**0.5:.4f}, needed at most half of its energy. Check the "
            "captures, or keep more modules float."
        )
