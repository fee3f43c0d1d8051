"""Bias correction: what rounding the weights shifts on average is taken back by the bias.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
section 4.2, with the shift measured on calibration captures instead of derived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from quantize.crops import Crop
from quantize.dataflow import CONVOLUTIONS, held_tensor
from quantize.observers import Mode, modes, rounded_weight


def correct_biases(prepared: GraphModule, crops: Sequence[Crop]) -> int:
    """Subtracts from every convolution's bias the mean error its rounded weights cause.

    The graph's activations are int8 while it is measured. Convolutions without a bias are left
    alone. Returns how many biases were corrected.
    """
    meter = _ShiftMeter(prepared)
    with torch.no_grad(), modes(prepared, Mode.INT8):
        for crop in crops:
            meter.run(*crop)
        for bias, shifts in meter.shifts.items():
            held_tensor(prepared, bias).sub_(torch.stack(shifts).mean(0))
    return len(meter.shifts)


class _ShiftMeter(Interpreter):
    """Runs a prepared graph; at every convolution with a bias, measures its weights' error."""

    def __init__(self, prepared: GraphModule) -> None:
        super().__init__(prepared)
        self._prepared = prepared
        self.shifts: dict[Node, list[Tensor]] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        bias = n.args[2] if n.target in CONVOLUTIONS and len(n.args) > 2 else None
        weight = rounded_weight(self._prepared, n)
        if isinstance(bias, Node) and bias.op == "get_attr" and weight is not None:
            arguments, options = self.fetch_args_kwargs_from_env(n)
            error = arguments[1] - held_tensor(self._prepared, weight)
            convolve: Callable[..., Tensor] = n.target  # type: ignore[assignment]
            shift = convolve(arguments[0], error, None, *arguments[3:], **options)
            self.shifts.setdefault(bias, []).append(_channel_means(n, shift))
        return result


def _channel_means(node: Node, result: Tensor) -> Tensor:
    # A linear layer's channels come last, a convolution's second.
    last = node.target is torch.ops.aten.linear.default
    channel = result.dim() - 1 if last else 1
    return result.mean([axis for axis in range(result.dim()) if axis != channel])
