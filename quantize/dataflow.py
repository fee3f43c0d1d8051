"""What a traced network's graph says about where its tensors come from and where they go."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch
from torch.fx import Graph, GraphModule, Node

from dfnet.errors import UnsupportedError

_aten = torch.ops.aten

CONVOLUTIONS = frozenset(
    {
        _aten.conv2d.default,
        _aten.conv2d.padding,
        _aten.conv_transpose2d.input,
        _aten.linear.default,
    }
)
"""Operators with a weight: what int8 makes faster."""
SAME_SCALE = frozenset(
    {
        _aten.cat.default,
        _aten.upsample_bilinear2d.vec,
        _aten.upsample_nearest2d.vec,
        _aten.pixel_shuffle.default,
        _aten.pixel_unshuffle.default,
        _aten.avg_pool2d.default,
        _aten.max_pool2d.default,
    }
)
"""Operators whose result lies within the range of their inputs: one scale serves both sides."""
_SUMS = frozenset({_aten.add.Tensor, _aten.add_.Tensor})
_PRODUCTS = frozenset({_aten.mul.Tensor, _aten.mul_.Tensor})
SIGMOIDS = frozenset({_aten.sigmoid.default, _aten.sigmoid_.default})


@dataclass(frozen=True)
class Dataflow:
    """Facts about a graph that decide what is quantized.

    ``before_convolution``: nodes some convolution depends on; all others form the image path.
    ``inputs_only``: graph inputs, rearranged or pooled, hence within [0, 1] as they are.
    ``joins_features``: those of them that end in an operator whose one scale features decide.
    ``pictures``: the output, the inputs with its channels, and, on the image path, sums with such
    a picture and products of one with a sigmoid; nominally within [0, 1] too.
    """

    before_convolution: frozenset[Node]
    inputs_only: frozenset[Node]
    joins_features: frozenset[Node]
    pictures: frozenset[Node]


def read_dataflow(graph: Graph) -> Dataflow:
    """The facts of ``graph``, whose nodes carry example values as torch.export leaves them."""
    before = _ancestors(node for node in graph.nodes if node.target in CONVOLUTIONS)
    inputs_only: set[Node] = set()
    for node in graph.nodes:
        rearranged = node.target in SAME_SCALE and set(tensor_inputs(node)) <= inputs_only
        if node.op == "placeholder" or rearranged:
            inputs_only.add(node)
    joins_features: set[Node] = set()
    for node in reversed(graph.nodes):
        if node in inputs_only and (
            shares_scale(node, inputs_only) or joins_features & node.users.keys()
        ):
            joins_features.add(node)
    return Dataflow(
        frozenset(before),
        frozenset(inputs_only),
        frozenset(joins_features),
        _pictures(graph, before),
    )


def float_heads(graph: Graph, flow: Dataflow, share: float) -> frozenset[Node]:
    """The first convolutions on the image path that together take at most ``share`` of all MACs.

    They write pictures and masks, whose rounding shows in the output as it is.
    """
    convolutions = [node for node in graph.nodes if node.target in CONVOLUTIONS]
    left = share * sum(map(macs, convolutions))
    chosen = []
    for node in convolutions:
        if node not in flow.before_convolution and macs(node) <= left:
            left -= macs(node)
            chosen.append(node)
    return frozenset(chosen)


def shares_scale(node: Node, inputs_only: Collection[Node]) -> bool:
    """Whether an operator that joins ``node`` with features, on one scale, consumes it."""
    return any(user.target in SAME_SCALE and user not in inputs_only for user in node.users)


def _ancestors(nodes: Iterable[Node]) -> set[Node]:
    found: set[Node] = set()
    pending = [parent for node in nodes for parent in node.all_input_nodes]
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending.extend(node.all_input_nodes)
    return found


def _pictures(graph: Graph, before_convolution: set[Node]) -> frozenset[Node]:
    outputs = tensor_inputs(graph.output_node())
    channels = {_channels(node) for node in outputs}
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    pictures = {*outputs, *(node for node in inputs if _channels(node) in channels)}
    for node in graph.nodes:
        sources = set(tensor_inputs(node))
        masked = node.target in _PRODUCTS and any(n.target in SIGMOIDS for n in sources)
        derived = (node.target in _SUMS or masked) and pictures & sources
        if derived and node not in before_convolution:
            pictures.add(node)
    return frozenset(pictures)


def macs(node: Node) -> int:
    """Multiply-accumulates of a convolution at the size its graph was traced with."""
    weight = tensor_inputs(node)[1].meta["val"]
    if node.target is _aten.conv_transpose2d.input:
        # Every input value meets one kernel per output channel of its group.
        return _numel(tensor_inputs(node)[0].meta["val"]) * _numel(weight) // int(weight.shape[0])
    return _numel(node.meta["val"]) * _numel(weight) // int(weight.shape[0])


def _numel(value: torch.Tensor) -> int:
    sizes = (size.node.hint if isinstance(size, torch.SymInt) else size for size in value.shape)
    return math.prod(int(size) for size in sizes)


def held_tensor(graph: GraphModule, node: Node) -> torch.Tensor:
    """The parameter or buffer that a ``get_attr`` node reads."""
    module, _, name = str(node.target).rpartition(".")
    tensor: torch.Tensor = getattr(graph.get_submodule(module), name)
    return tensor


def held_biases(graph: GraphModule) -> list[torch.Tensor]:
    """The biases of all convolutions that have one of their own, each once."""
    biases = {
        node.args[2]
        for node in graph.graph.nodes
        if node.target in CONVOLUTIONS and len(node.args) > 2
    }
    held = [n for n in graph.graph.nodes if n in biases and n.op == "get_attr"]
    return [held_tensor(graph, node) for node in held]


def _channels(node: Node) -> int:
    # A graph with dynamic sizes holds even constant ones as symbols, which do not hash.
    return int(node.meta["val"].shape[1])


def tensor_inputs(node: Node) -> list[Node]:
    """The tensors ``node`` reads, without the symbolic sizes of a dynamic graph."""
    return [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), torch.Tensor)]


def module_names(node: Node) -> tuple[str, ...]:
    """Dotted names of the modules ``node`` was traced in, outermost first."""
    stack = node.meta.get("nn_module_stack", {})
    return tuple(path.removeprefix("L['self']").lstrip(".") for path, _ in stack.values())


def in_modules(node: Node, names: Iterable[str]) -> bool:
    """Whether ``node`` was traced inside one of the modules called ``names``."""
    inside = module_names(node)
    return any(name in inside for name in names)


def require_modules(graph: Graph, names: Iterable[str]) -> None:
    """Checks that every name is a module of the traced network.

    Raises:
        UnsupportedError: names the first that is not, and the nearest names there are.
    """
    known = {name for node in graph.nodes for name in module_names(node) if name}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.0)
            raise UnsupportedError(
                f"Module {name!r} to keep float: got no such module in the network, needed one "
                f"of its names. Nearest: {', '.join(near) or 'none'}."
            )
