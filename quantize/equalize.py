"""Cross-layer equalization: quiet channels made louder where that changes nothing but codes.

ReLU, pooling, upsampling and sums commute with a positive factor per channel, so a convolution may
put out a channel s times louder if every convolution that reads it divides its weights by s
(Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019).
One scale per tensor then wastes fewer codes on quiet channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from dfnet.errors import UnsupportedError
from quantize.dataflow import held_tensor, tensor_inputs

_aten = torch.ops.aten

QUIETEST = 1 / 16
"""Quieter channels than this share of their tensor's loudest are treated as being this loud, so
that a dead one does not drown the weights."""

STRENGTH = 0.5
"""Share, as an exponent, of the way to equal channels; all the way, weights lose what activations
gain. Chosen on the validation captures among 0.3, 0.5, 0.75 and 1."""

_CONVOLUTIONS = frozenset({_aten.conv2d.default, _aten.conv2d.padding})
_PER_CHANNEL = frozenset(
    {
        _aten.relu.default,
        _aten.relu_.default,
        _aten.leaky_relu.default,
        _aten.leaky_relu_.default,
        _aten.prelu.default,
        _aten.upsample_bilinear2d.vec,
        _aten.upsample_nearest2d.vec,
        _aten.avg_pool2d.default,
        _aten.max_pool2d.default,
    }
)
_SUMS = frozenset({_aten.add.Tensor, _aten.add_.Tensor, _aten.sub.Tensor, _aten.sub_.Tensor})
_RELUS = frozenset({_aten.relu.default, _aten.relu_.default})

Channel = tuple[str, int]
_PINNED: Channel = ("", 0)
"""The channel that all those belong to which must stay as loud as they are."""


def equalize(graph: GraphModule, crops: Sequence[Sequence[Tensor]]) -> int:
    """Rescales the convolutions of ``graph`` in place; returns how many channels became louder.

    ``graph`` is a traced network whose weights nothing else uses. ``crops`` are inputs in the
    order of ``dfnet.signature.INPUTS``; they show how loud each channel is.

    Raises:
        UnsupportedError: there are no crops, or the graph no longer computes the same.
    """
    if not crops:
        raise UnsupportedError("Equalization: got no crops, needed at least one. Add captures.")
    channels = _Channels(graph)
    before = _run(graph, crops[0])
    gains = _gains(channels, _loudness(graph, crops, channels.of.keys()))
    _rescale(graph, channels, gains)
    difference = float((_run(graph, crops[0]) - before).abs().max())
    # Written so that NaN fails too.
    if not difference <= 1e-4:
        raise UnsupportedError(
            f"Equalization: the output changed by {difference:.1e}, needed at most 1e-4. Turn "
            "equalization off in the recipe."
        )
    return sum(gain > 1 for gain in gains.values())


def _run(graph: GraphModule, inputs: Sequence[Tensor]) -> Tensor:
    with torch.no_grad():
        output: Tensor = graph(*inputs)
    return output


class _Channels:
    """Which channels of a graph's tensors must share one factor."""

    def __init__(self, graph: GraphModule) -> None:
        self.of: dict[Node, list[Channel]] = {}
        self.convolutions: list[Node] = []
        self._leader: dict[Channel, Channel] = {_PINNED: _PINNED}
        weights = [n.args[1] for n in graph.graph.nodes if n.target in _CONVOLUTIONS]
        self._shared = {weight for weight in weights if weights.count(weight) > 1}
        for node in graph.graph.nodes:
            if node.op in ("placeholder", "output") or isinstance(
                node.meta.get("val"), torch.Tensor
            ):
                self._add(node)

    def leader(self, channel: Channel) -> Channel:
        """The channel that stands for all those sharing the factor of ``channel``."""
        while self._leader[channel] != channel:
            self._leader[channel] = self._leader[self._leader[channel]]
            channel = self._leader[channel]
        return channel

    def gains(self, node: Node, gains: dict[Channel, float]) -> Tensor:
        """The factors of a tensor's channels, (C,)."""
        return torch.tensor([gains.get(self.leader(channel), 1.0) for channel in self.of[node]])

    def _add(self, node: Node) -> None:
        sources = [n for n in tensor_inputs(node) if n in self.of]
        if node.op == "get_attr":
            return
        if node.target in _CONVOLUTIONS and self._can_scale(node):
            self.of[node] = [self._fresh((node.name, c)) for c in range(_count(node))]
            self.convolutions.append(node)
        elif node.target in _PER_CHANNEL:
            self.of[node] = self.of[sources[0]]
        elif node.target in _SUMS and len(sources) == 2 and self._alike(*sources):
            for one, other in zip(self.of[sources[0]], self.of[sources[1]], strict=True):
                self._leader[self.leader(one)] = self.leader(other)
            self.of[node] = self.of[sources[0]]
        elif node.target is _aten.cat.default and _axis(node) == 1:
            self.of[node] = [channel for n in _parts(node) for channel in self.of[n]]
        else:
            self._pin(sources)
            if node.op != "output":
                self.of[node] = [_PINNED] * _count(node)

    def _can_scale(self, node: Node) -> bool:
        ungrouped = bool(len(node.args) < 7 or node.args[6] == 1)
        held = all(n.op == "get_attr" for n in node.args[1:3] if isinstance(n, Node))
        return ungrouped and held and node.args[1] not in self._shared

    def _alike(self, one: Node, other: Node) -> bool:
        return len(self.of[one]) == len(self.of[other])

    def _fresh(self, channel: Channel) -> Channel:
        self._leader[channel] = channel
        return channel

    def _pin(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            for channel in self.of[node]:
                self._leader[self.leader(channel)] = self.leader(_PINNED)


def _count(node: Node) -> int:
    shape = node.meta["val"].shape
    return int(shape[1]) if len(shape) > 1 else 1


def _axis(node: Node) -> Any:
    return node.args[1] if len(node.args) > 1 else 0


def _parts(node: Node) -> list[Node]:
    parts = node.args[0]
    assert isinstance(parts, list | tuple)
    return [n for n in parts if isinstance(n, Node)]


class _Watch(Interpreter):
    """Runs a graph and keeps the largest absolute value of every channel of ``nodes``."""

    def __init__(self, graph: GraphModule, nodes: Iterable[Node]) -> None:
        super().__init__(graph)
        self.nodes = frozenset(nodes)
        self.largest: dict[Node, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n in self.nodes and n.op != "placeholder" and result.dim() == 4:
            largest = result.abs().amax((0, 2, 3))
            self.largest[n] = torch.maximum(largest, self.largest.get(n, largest))
        return result


def _loudness(
    graph: GraphModule, crops: Sequence[Sequence[Tensor]], nodes: Iterable[Node]
) -> dict[Node, Tensor]:
    watch = _Watch(graph, nodes)
    with torch.no_grad():
        for inputs in crops:
            watch.run(*inputs)
    return watch.largest


def _gains(channels: _Channels, loudness: dict[Node, Tensor]) -> dict[Channel, float]:
    """Per leading channel, the factor that brings it nearer to its tensors' loudest."""
    share: dict[Channel, float] = {}
    for node, largest in loudness.items():
        # A convolution's own result is not quantized where a ReLU follows.
        if len(node.users) == 1 and next(iter(node.users)).target in _RELUS:
            continue
        joined = [loudness[user] for user in node.users if user.target is _aten.cat.default]
        loudest = max(float(tensor.max()) for tensor in (largest, *joined))
        for channel, value in zip(channels.of[node], largest.tolist(), strict=True):
            leader = channels.leader(channel)
            share[leader] = max(share.get(leader, 0.0), value / loudest if loudest else 1.0)
    gains = {leader: max(value, QUIETEST) ** -STRENGTH for leader, value in share.items()}
    return {**gains, channels.leader(_PINNED): 1.0}


def _rescale(graph: GraphModule, channels: _Channels, gains: dict[Channel, float]) -> None:
    with torch.no_grad():
        for node in channels.convolutions:
            out, into = channels.gains(node, gains), channels.gains(_source(node), gains)
            weight, bias = (*node.args[1:3], None)[:2]
            assert isinstance(weight, Node)
            held_tensor(graph, weight).mul_(out[:, None, None, None] / into[None, :, None, None])
            if isinstance(bias, Node):
                held_tensor(graph, bias).mul_(out)


def _source(node: Node) -> Node:
    source = node.args[0]
    assert isinstance(source, Node)
    return source
