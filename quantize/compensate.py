"""Compensated rounding: what rounding one weight breaks, the weights not rounded yet make up for.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023, section 3, applied to every convolution and linear layer on its own: one
column of the weight after the other is rounded, the strongest input first, and the error that
leaves in the layer's result is spread over the other columns by least squares. Only second moments
of the layer's inputs are needed; nothing is learned, and ranges do not move.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from quantize.crops import Crop
from quantize.dataflow import held_tensor
from quantize.observers import SYMMETRIC, Mode, WeightQuantizer, modes, rounded_weight

log = logging.getLogger(__name__)

DAMPING = 0.01
"""Share of the mean squared input added to every input's: the paper's, section 3.3."""

_MEMORY_BYTES = 2**30
"""Second moments held at a time; larger networks take several passes over the crops."""

_aten = torch.ops.aten
_LINEAR = _aten.linear.default
_SUPPORTED = frozenset({_aten.conv2d.default, _aten.conv2d.padding, _LINEAR})


def compensate_rounding(
    prepared: GraphModule, crops: Sequence[Crop], *, keep_largest: bool = False
) -> int:
    """Rounds the weights of a calibrated graph in place; returns how many.

    With ``keep_largest`` the largest weight of every output keeps the outermost code, so that the
    result's own maximum still gives the scale. Weights of other operators, transposed convolutions
    among them, are left to be rounded to nearest.
    """
    readers = _readers(prepared)
    with torch.no_grad():
        for weights in _batches(prepared, list(readers)):
            wanted = {node: weight for weight in weights for node in readers[weight]}
            meter = _MomentMeter(prepared, wanted)
            with modes(prepared, Mode.FLOAT):
                for crop in crops:
                    meter.run(*crop)
            for weight in weights:
                quantizer = prepared.get_submodule(str(readers[weight][0].args[1]))
                assert isinstance(quantizer, WeightQuantizer)
                values, moments = held_tensor(prepared, weight), meter.moments[weight]
                _round(values, quantizer.scale, moments, keep_largest=keep_largest)
    log.info("Compensated rounding: %d weights", len(readers))
    return len(readers)


def _readers(prepared: GraphModule) -> dict[Node, list[Node]]:
    """Every weight to be rounded, and the operators that read it."""
    found: dict[Node, list[Node]] = {}
    for node in prepared.graph.nodes:
        weight = rounded_weight(prepared, node) if node.target in _SUPPORTED else None
        if weight is not None:
            found.setdefault(weight, []).append(node)
    return found


def _batches(prepared: GraphModule, weights: Sequence[Node]) -> Iterator[list[Node]]:
    batch: list[Node] = []
    used = 0
    for weight in weights:
        size = 8 * held_tensor(prepared, weight)[0].numel() ** 2
        if batch and used + size > _MEMORY_BYTES:
            yield batch
            batch, used = [], 0
        batch.append(weight)
        used += size
    if batch:
        yield batch


class _MomentMeter(Interpreter):
    """Runs a prepared graph and sums the second moments of what each weight is multiplied with."""

    def __init__(self, prepared: GraphModule, wanted: dict[Node, Node]) -> None:
        super().__init__(prepared)
        self._wanted = wanted
        self.moments: dict[Node, Tensor] = {}
        """Per weight, (groups, n, n) float64, for n inputs of each output value."""

    def run_node(self, n: Node) -> Any:
        if n in self._wanted:
            arguments, _ = self.fetch_args_kwargs_from_env(n)
            seen = _inputs(n, arguments)
            moment = (seen @ seen.mT).double() / seen.shape[-1]
            weight = self._wanted[n]
            self.moments[weight] = self.moments.get(weight, torch.zeros(())) + moment
        return super().run_node(n)


def _inputs(node: Node, arguments: Sequence[Any]) -> Tensor:
    """What the rows of a weight are multiplied with, one column per place, (groups, n, places)."""
    x, weight = arguments[:2]
    if node.target is _LINEAR:
        flat: Tensor = x.reshape(1, -1, x.shape[-1])
        return flat.mT
    defaults: list[Any] = [1, 0, 1, 1]
    given = list(arguments[3:])
    stride, padding, dilation, groups = given + defaults[len(given) :]
    kernel = weight.shape[2:]
    x = F.pad(x, _margins(padding, kernel, _pair(dilation)))
    patches = F.unfold(x, kernel, _pair(dilation), 0, _pair(stride))
    return patches.transpose(0, 1).reshape(groups, -1, patches.shape[0] * patches.shape[2])


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    both = [value, value] if isinstance(value, int) else list(value)
    return both[0], both[-1]


def _margins(
    padding: str | int | Sequence[int], kernel: Sequence[int], dilation: tuple[int, int]
) -> list[int]:
    """Left, right, top, bottom; "same" puts the odd one right and below, as torch does."""
    if padding == "valid":
        return [0, 0, 0, 0]
    if padding == "same":
        spare = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [spare[1] // 2, spare[1] - spare[1] // 2, spare[0] // 2, spare[0] - spare[0] // 2]
    assert not isinstance(padding, str)
    vertical, horizontal = _pair(padding)
    return [horizontal, horizontal, vertical, vertical]


def _round(weight: Tensor, scale: Tensor, moments: Tensor, *, keep_largest: bool) -> None:
    """Writes the rounded values of ``weight``, (out, ...) with one ``scale`` (out,) per row."""
    rows = weight.reshape(len(moments), -1, moments.shape[-1])
    scales = scale.reshape(len(moments), -1)
    rounded = [
        _compensated(*one, keep_largest=keep_largest)
        for one in zip(rows, scales, moments, strict=True)
    ]
    weight.copy_(torch.cat(rounded).view_as(weight))


def _compensated(rows: Tensor, scale: Tensor, moments: Tensor, *, keep_largest: bool) -> Tensor:
    """``rows``, (out, n), on the grid of ``scale``, (out,), given moments (n, n) of the inputs."""
    strength = moments.diag()
    if not strength.any():
        return _nearest(rows, scale) * scale[:, None]
    order = strength.argsort(descending=True)
    steps = scale.double()
    left = rows.double()[:, order]
    damped = moments[order][:, order] + DAMPING * strength.mean() * torch.eye(len(order))
    # Row i: how the best values of the later columns answer to a change of column i.
    answer = torch.linalg.cholesky(_inverse(damped), upper=True)
    largest = left.abs().argmax(dim=1) if keep_largest else torch.full((len(left),), -1)
    outermost = _nearest(left, steps)
    codes = torch.empty_like(left)
    for column in range(len(order)):
        nearest = _nearest(left[:, column, None], steps)[:, 0]
        codes[:, column] = torch.where(largest == column, outermost[:, column], nearest)
        error = left[:, column] - codes[:, column] * steps
        left -= torch.outer(error / answer[column, column], answer[column])
    restored = torch.empty_like(codes)
    restored[:, order] = codes
    return restored.to(rows.dtype) * scale[:, None]


def _inverse(matrix: Tensor) -> Tensor:
    inverse: Callable[[Tensor], Tensor] = torch.cholesky_inverse
    return inverse(torch.linalg.cholesky(matrix))


def _nearest(rows: Tensor, scale: Tensor) -> Tensor:
    return (rows / scale[:, None]).round().clamp(-SYMMETRIC, SYMMETRIC)
