"""Which results of convolutions are worth splitting: the noise it saves over what it costs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from quantize.channel_splitting import Splittable
from quantize.crops import Crop
from quantize.dataflow import CONVOLUTIONS, macs, tensor_inputs
from quantize.observers import ActivationQuantizer, Mode, modes, quantizer_of

log = logging.getLogger(__name__)

QUIET_ENOUGH = 10**-5.8
"""Mean squared error, 58 dB, that the activations together may make before anything is split: in a
picture 38 dB from the truth it costs 0.04 dB."""


@dataclass(frozen=True)
class _Choice:
    """Results to be split together because one scale serves them, and the noise that saves."""

    names: tuple[str, ...]
    saved: float


def choose_splits(
    graph: GraphModule,
    prepared: GraphModule,
    splittable: dict[str, Splittable],
    crops: Sequence[Crop],
    share: float,
) -> tuple[str, ...]:
    """Names of the results to split, at a cost of at most ``share`` of all multiply-accumulates.

    ``graph`` is a traced network and ``prepared`` the same one, calibrated, with settled ranges.
    The noise of each scale is what int8 does to the output where it alone is used. The choice with
    the most noise saved per cost is taken, again and again, until nothing affordable is left or
    what is left is ``QUIET_ENOUGH``.
    """
    noises = _noises(prepared, crops)
    choices = _choices(prepared, splittable, noises, _loudness(prepared, crops))
    work = _Work(graph, splittable)
    noise = sum(noises.values())
    taken: tuple[str, ...] = ()
    while noise > QUIET_ENOUGH:
        affordable = [c for c in choices if work.share((*taken, *c.names)) <= share]
        if not affordable:
            break
        now = work.share(taken)
        best = max(affordable, key=lambda c: c.saved / (work.share((*taken, *c.names)) - now))
        taken, noise = (*taken, *best.names), noise - best.saved
        choices.remove(best)
    log.info("Splitting %s: %.3f more work", ", ".join(taken) or "nothing", work.share(taken))
    return taken


def _noises(prepared: GraphModule, crops: Sequence[Crop]) -> dict[ActivationQuantizer, float]:
    """Mean squared error of the output when one scale's tensors alone are int8."""
    quantizers = {q: None for n in prepared.graph.nodes if (q := quantizer_of(prepared, n))}
    measured = [q for q in quantizers if q.fixed is None]
    with torch.no_grad(), modes(prepared, Mode.FLOAT):
        floats = [prepared(*crop) for crop in crops]
    noises = {}
    for quantizer in measured:
        with torch.no_grad(), modes(prepared, Mode.FLOAT, but=[quantizer]):
            outputs = [prepared(*crop) for crop in crops]
        errors = [(o - f).square().mean() for o, f in zip(outputs, floats, strict=True)]
        noises[quantizer] = float(torch.stack(errors).mean())
    return noises


class _Loudness(Interpreter):
    """Runs a prepared graph and keeps the largest absolute value of every quantized result."""

    def __init__(self, prepared: GraphModule) -> None:
        super().__init__(prepared)
        self.largest: dict[str, float] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor) and n.op == "call_function":
            largest = float(result.abs().max())
            self.largest[n.name] = max(largest, self.largest.get(n.name, 0.0))
        return result


def _loudness(prepared: GraphModule, crops: Sequence[Crop]) -> dict[str, float]:
    meter = _Loudness(prepared)
    with torch.no_grad(), modes(prepared, Mode.FLOAT):
        for crop in crops:
            meter.run(*crop)
    return meter.largest


def _choices(
    prepared: GraphModule,
    splittable: dict[str, Splittable],
    noises: dict[ActivationQuantizer, float],
    loudness: dict[str, float],
) -> list[_Choice]:
    """Per scale, the results to halve so that it can shrink, if that is possible."""
    tensors: dict[ActivationQuantizer, list[str]] = {}
    for node in prepared.graph.nodes:
        quantizer = quantizer_of(prepared, node)
        if quantizer in noises and node.name in loudness:
            tensors.setdefault(quantizer, []).append(node.name)
    choices = []
    for quantizer, names in tensors.items():
        sources = [name for name in names if not _is_joined(prepared, name)]
        loudest = max(loudness[name] for name in sources)
        loud = tuple(name for name in sources if loudness[name] > loudest / 2)
        rest = max((loudness[name] for name in sources if name not in loud), default=0.0)
        shrunk = max(0.5, rest / loudest) if loudest else 1.0
        if loud and all(name in splittable for name in loud):
            choices.append(_Choice(loud, noises[quantizer] * (1 - shrunk**2)))
    return choices


def _is_joined(prepared: GraphModule, name: str) -> bool:
    (node,) = (node for node in prepared.graph.nodes if node.name == name)
    return node.target is torch.ops.aten.cat.default


class _Work:
    """Multiply-accumulates of a traced network as results are split."""

    def __init__(self, graph: GraphModule, splittable: dict[str, Splittable]) -> None:
        self._splittable = splittable
        nodes = [node for node in graph.graph.nodes if node.target in CONVOLUTIONS]
        self._macs = {node: macs(node) for node in nodes}
        self._inputs = {node: int(tensor_inputs(node)[1].meta["val"].shape[1]) for node in nodes}

    def share(self, names: Iterable[str]) -> float:
        """How much more work splitting ``names`` makes, as a share of the work without."""
        outputs = dict.fromkeys(self._macs, 1)
        inputs = dict(self._inputs)
        for name in names:
            split = self._splittable[name]
            outputs[split.convolution] = 2
            for reader, _ in split.readers:
                inputs[reader] += int(split.result.meta["val"].shape[1])
        total: float = sum(
            count * outputs[node] * inputs[node] / self._inputs[node]
            for node, count in self._macs.items()
        )
        return total / sum(self._macs.values()) - 1
