"""Channels split in two halves, each int8 on its own: together they resolve twice as finely.

A convolution puts out x / 2 twice instead of x, and whatever reads x adds the two up, a convolution
by repeating its weights. In float nothing changes. In int8 both halves need half the range, and
when one is shifted down and the other up by a quarter of a step, their sum rounds to steps half as
wide as before: Zhao et al., "Improving Neural Network Quantization without Retraining using Outlier
Channel Splitting", ICML 2019, section 3.3, with whole tensors split instead of single channels.
It costs multiply-accumulates, and no new kind of operator.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from dfnet.errors import UnsupportedError
from quantize.dataflow import held_tensor
from quantize.observers import quantizer_of

_aten = torch.ops.aten
_CONVOLUTIONS = frozenset({_aten.conv2d.default, _aten.conv2d.padding})
_RELUS = frozenset({_aten.relu.default, _aten.relu_.default})
_REARRANGEMENTS = frozenset({_aten.pixel_shuffle.default, _aten.pixel_unshuffle.default})
_CAT = _aten.cat.default
_SECOND = "_second"


@dataclass(frozen=True)
class Splittable:
    """A convolution's result: ``result`` is its ReLU if it has one.

    ``readers`` are the convolutions that add its halves up, each with the first of its input
    channels that belong to it; none if the halves are added up at once.
    """

    convolution: Node
    result: Node
    readers: tuple[tuple[Node, int], ...]


def splittable(graph: Graph, pictures: Collection[Node]) -> dict[str, Splittable]:
    """What can be split, by the name of the result.

    That is ReLUs of convolutions that convolutions alone read, concatenated at most, and the
    convolutions without a ReLU among ``pictures``, where sums stay float.
    """
    found: dict[str, Splittable] = {}
    for node in graph.nodes:
        if node.target not in _CONVOLUTIONS or not _owns_its_weights(node):
            continue
        users = list(node.users)
        if len(users) == 1 and users[0].target in _RELUS:
            readers = _readers(users[0])
            if readers:
                found[users[0].name] = Splittable(node, users[0], readers)
        elif node in pictures:
            found[node.name] = Splittable(node, node, ())
    return found


def split_channels(graph: GraphModule, names: Sequence[str]) -> None:
    """Splits the results called ``names`` of a traced network, in place, keeping its function.

    Raises:
        UnsupportedError: a name that cannot be split.
    """
    everything = frozenset(graph.graph.nodes)
    for name in names:
        # Looked up anew each time: a split moves the channels of what is concatenated after it.
        candidate = splittable(graph.graph, everything).get(name)
        if candidate is None:
            raise UnsupportedError(f"Splitting {name}: got no such result of a convolution.")
        if candidate.readers:
            _split_features(graph, candidate)
        else:
            _split_picture(graph, candidate.convolution)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def stagger(prepared: GraphModule, names: Sequence[str]) -> None:
    """Shifts the halves of every split result against each other by half a step of its scale.

    ``prepared`` is calibrated and its ranges are settled.
    """
    nodes = {node.name: node for node in prepared.graph.nodes}
    with torch.no_grad():
        for name in names:
            second = nodes.get(name + _SECOND)
            quarter = _scale(prepared, nodes[name]) / 4
            if second is None:
                low, high = _bias(prepared, nodes[name]).chunk(2)
                low.sub_(quarter)
                high.add_(quarter)
            else:
                # The second half is negative, so that down is up.
                _bias(prepared, nodes[name]).sub_(quarter)
                _bias(prepared, second).sub_(_scale(prepared, second) / 4)


def _owns_its_weights(node: Node) -> bool:
    """Whether a convolution has a weight and a bias, is not grouped, and shares neither."""
    ungrouped = bool(len(node.args) < 7 or node.args[6] == 1)
    held = [n for n in node.args[1:3] if isinstance(n, Node) and n.op == "get_attr"]
    targets = [n.target for n in node.graph.nodes if n.op == "get_attr" for _ in n.users]
    return ungrouped and len(held) == 2 and all(targets.count(n.target) == 1 for n in held)


def _readers(node: Node) -> tuple[tuple[Node, int], ...]:
    """The convolutions that read ``node``, and where its channels begin; empty if others do."""
    readers: list[tuple[Node, int]] = []
    for user in node.users:
        if user.target is _CAT:
            parts = _parts(user)
            joined = len(user.args) > 1 and user.args[1] == 1 and parts.count(node) == 1
            if not joined or not all(map(_can_read, user.users)):
                return ()
            first = sum(map(_channels, parts[: parts.index(node)]))
            readers.extend((reader, first) for reader in user.users)
        elif _can_read(user) and user.args[0] is node:
            readers.append((user, 0))
        else:
            return ()
    return tuple(readers)


def _can_read(node: Node) -> bool:
    return node.target in _CONVOLUTIONS and _owns_its_weights(node)


def _parts(cat: Node) -> list[Node]:
    parts = cat.args[0]
    assert isinstance(parts, list | tuple)
    return [part for part in parts if isinstance(part, Node)]


def _split_features(graph: GraphModule, split: Splittable) -> None:
    count = _channels(split.result)
    for index in (1, 2):
        held = _argument(split.convolution, index)
        half = held_tensor(graph, held) / 2
        _hold(graph, split.convolution, index, torch.cat([half, half]))
    for reader, first in split.readers:
        weight = held_tensor(graph, _argument(reader, 1))
        end = first + count
        _hold(graph, reader, 1, torch.cat([weight[:, :end], weight[:, first:]], 1))
    for node in {split.convolution, split.result}:
        node.meta["val"] = _twice(node)
    for user in split.result.users:
        if user.target is _CAT:
            user.meta["val"] = torch.cat([part.meta["val"] for part in _parts(user)], 1)


def _split_picture(graph: GraphModule, convolution: Node) -> None:
    """Makes x into x / 2 - (-x / 2): LiteRT merges equal weights, then computes in float."""
    halves = [held_tensor(graph, _argument(convolution, index)) / 2 for index in (1, 2)]
    for index, half in enumerate(halves, start=1):
        _hold(graph, convolution, index, half)
    nodes = convolution.graph
    chain = _rearranged(convolution)
    with nodes.inserting_after(chain[-1]):
        total = nodes.call_function(_aten.sub.Tensor, (chain[-1], chain[-1]))
    total.meta = dict(chain[-1].meta)
    for user in list(chain[-1].users):
        if user is not total:
            user.replace_input_with(chain[-1], total)
    second: dict[Node, Node] = {}
    with nodes.inserting_before(total):
        for node in chain:
            arguments = tuple(second.get(a, a) if isinstance(a, Node) else a for a in node.args)
            second[node] = nodes.create_node(
                "call_function", node.target, arguments, dict(node.kwargs), node.name + _SECOND
            )
            second[node].meta = dict(node.meta)
    for index, half in enumerate(halves, start=1):
        _hold(graph, second[convolution], index, -half)
    total.update_arg(1, second[chain[-1]])


def _rearranged(node: Node) -> list[Node]:
    """``node`` and what alone reads it, one after the other, without computing anything."""
    chain = [node]
    while len(chain[-1].users) == 1:
        (user,) = chain[-1].users
        if user.target not in _REARRANGEMENTS:
            break
        chain.append(user)
    return chain


def _hold(graph: GraphModule, reader: Node, index: int, tensor: Tensor) -> None:
    """Makes ``tensor`` a parameter of its own, read as argument ``index`` of ``reader``."""
    old = _argument(reader, index)
    name = f"{reader.name}_{('weight', 'bias')[index - 1]}"
    while hasattr(graph, name):
        name += _SECOND
    graph.register_parameter(name, nn.Parameter(tensor.detach(), requires_grad=False))
    with reader.graph.inserting_before(reader):
        held = reader.graph.get_attr(name)
    held.meta = dict(old.meta)
    fake = old.meta["val"]
    held.meta["val"] = fake.new_empty(tensor.shape)
    reader.update_arg(index, held)


def _argument(node: Node, index: int) -> Node:
    argument = node.args[index]
    assert isinstance(argument, Node)
    return argument


def _twice(node: Node) -> Tensor:
    value: Tensor = node.meta["val"]
    return torch.cat([value, value], 1)


def _channels(node: Node) -> int:
    return int(node.meta["val"].shape[1])


def _bias(prepared: GraphModule, result: Node) -> Tensor:
    convolution = _argument(result, 0) if result.target in _RELUS else result
    return held_tensor(prepared, _argument(convolution, 2))


def _scale(prepared: GraphModule, result: Node) -> float:
    quantizer = quantizer_of(prepared, result)
    return 0.0 if quantizer is None else float(quantizer.scale)
