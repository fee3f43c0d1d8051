"""Whether float16 can hold what a network computes, before a phone shows it as black or NaN pixels.

Core ML computes in float16 unless told otherwise, and phone GPUs do. A value over 65504 becomes
infinite there. The largest magnitudes are measured on calibration captures in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from dfnet.errors import CalibrationError
from dfnet.signature import Feed
from dfnet.tensors import feed_tensors
from quantize.dataflow import module_names
from quantize.trace import trace

FLOAT16_MAX = 65504.0
"""Largest finite value of IEEE 754 binary16."""

HEADROOM = 8.0
"""Calibration must stay this factor below ``FLOAT16_MAX``: pictures of users drive features beyond
what a few captures do, and accumulators inside a convolution, which nobody sees from outside, hold
partial sums larger than its result."""


@dataclass(frozen=True)
class Magnitude:
    """The largest absolute value of one tensor over all feeds; ``module`` is where it is made."""

    tensor: str
    module: str
    largest: float

    @property
    def headroom(self) -> float:
        """How many times larger it could be before float16 overflows; infinite for zeros."""
        return FLOAT16_MAX / self.largest if self.largest else math.inf

    @property
    def overflows(self) -> bool:
        """Whether less than ``HEADROOM`` is left; true for NaN."""
        return not self.headroom >= HEADROOM

    def to_json(self) -> dict[str, Any]:
        """With ``headroom`` null where nothing bounds it."""
        headroom = self.headroom if math.isfinite(self.headroom) else None
        return {**asdict(self), "headroom": headroom, "overflows": self.overflows}


def measure_magnitudes(
    network: nn.Module,
    feeds: Iterable[Feed],
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Magnitude, ...]:
    """Every floating-point tensor of ``network``, weights included, the largest first.

    ``progress`` is called with the number of feeds done. Sums inside an operator are not seen.

    Raises:
        UnsupportedError: the network cannot be traced.
        CalibrationError: there are no feeds.
    """
    graph = trace(network).module()
    recorder = _Recorder(graph)
    done = 0
    with torch.no_grad():
        for done, feed in enumerate(feeds, start=1):
            recorder.run(*feed_tensors(feed))
            progress(done)
    if not done:
        raise CalibrationError(
            "Float16 check: got 0 feeds, needed at least one. Give calibration captures."
        )
    return tuple(sorted(recorder.magnitudes(), key=_largest_first))


def _largest_first(magnitude: Magnitude) -> float:
    return -math.inf if math.isnan(magnitude.largest) else -magnitude.largest


class _Recorder(Interpreter):
    """Runs a graph node by node and keeps the largest magnitude of each."""

    def __init__(self, graph: GraphModule) -> None:
        super().__init__(graph)
        self._largest: dict[Node, float] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.op != "output" and isinstance(value, Tensor) and value.is_floating_point():
            here = float(value.abs().max())
            # max() of Python would drop a NaN that comes second.
            self._largest[n] = float(np.maximum(here, self._largest.get(n, 0.0)))
        return value

    def magnitudes(self) -> list[Magnitude]:
        return [
            Magnitude(str(node), (module_names(node) or ("",))[-1], largest)
            for node, largest in self._largest.items()
        ]
