"""From a module to a graph, with heights and widths left open."""

from __future__ import annotations

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from dfnet.errors import UnsupportedError
from dfnet.profiles import Resolution
from dfnet.signature import INPUTS, STRIDE
from dfnet.tensors import example_inputs

MAX_SIDE = 8192
"""Largest height or width, in pixels, that a traced graph accepts."""

# Two different sizes, so that tracing cannot take height and width for one number.
_EXAMPLE = Resolution(96, 128)


def trace(network: nn.Module) -> ExportedProgram:
    """``network`` as a graph for any height and width that are multiples of ``STRIDE``.

    Raises:
        UnsupportedError: torch.export cannot trace the network so.
    """
    height, width = (Dim(name, min=1, max=MAX_SIDE // STRIDE) for name in ("height", "width"))
    sizes = tuple({2: STRIDE * height, 3: STRIDE * width} for _ in INPUTS)
    try:
        return torch.export.export(network, example_inputs(_EXAMPLE), dynamic_shapes=sizes)
    # torch.export lets the errors of the network's own Python code through, whatever they are.
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        reason = " ".join(str(e).split())[:300]
        raise UnsupportedError(
            f"Network {type(network).__name__}: torch.export cannot trace it for every size that "
            f"is a multiple of {STRIDE} ({type(e).__name__}: {reason}). Take data- and "
            "size-dependent Python code out of its forward."
        ) from e
