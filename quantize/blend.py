"""Blends rewritten for int8: u + m * (w - u) becomes m * w + (1 - m) * u.

The difference of two pictures spans [-1, 1], so int8 resolves it, and its product with the mask,
half as finely as a picture; the two products of the other form are pictures themselves. 1 - m is
the sigmoid of the negated logits, computed by a copy of the convolution with negated weights, so
no constant and no subtraction is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import nn
from torch.fx import GraphModule, Node

from quantize.dataflow import CONVOLUTIONS, SAME_SCALE, held_tensor, tensor_inputs

log = logging.getLogger(__name__)

_aten = torch.ops.aten
_NEGATABLE = SAME_SCALE - {_aten.max_pool2d.default}
"""Rearrangements of negated values that give the negated result."""
_ADD, _SUB, _MUL = _aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor


def split_blends(graph: GraphModule) -> int:
    """Rewrites every blend of ``graph`` in place; returns how many.

    A blend whose mask is not a sigmoid over a convolution's output, rearranged at most, is left.
    """
    found = 0
    for node in list(graph.graph.nodes):
        blend = _blend_at(node)
        if blend is not None:
            _rewrite(graph, node, *blend)
            found += 1
    graph.graph.eliminate_dead_code()
    graph.recompile()
    log.info("Rewrote %d blends as two products", found)
    return found


def _blend_at(node: Node) -> tuple[Node, Node, list[Node]] | None:
    """(w, u, mask) if ``node`` is u + m * (w - u); the mask from its sigmoid up to a convolution.

    Sums and products are taken in either order, and operators inside must have no other reader.
    """
    for u, product in _orders(node, _ADD):
        for mask, difference in _orders(product, _MUL):
            if difference.target is _SUB and difference.args[1] is u and _private(difference):
                w, chain = difference.args[0], _mask(mask)
                exact = not difference.kwargs and _private(product)
                if exact and isinstance(w, Node) and chain:
                    return w, u, chain
    return None


def _orders(node: Node, target: Callable[..., object]) -> list[tuple[Node, Node]]:
    if node.target is not target or node.kwargs or len(node.args) != 2:
        return []
    one, other = node.args
    if not (isinstance(one, Node) and isinstance(other, Node)):
        return []
    return [(one, other), (other, one)]


def _private(node: Node) -> bool:
    return len(node.users) == 1


def _mask(node: Node) -> list[Node]:
    """The operators of a mask, sigmoid first, its convolution last; empty if it is none."""
    if node.target is not _aten.sigmoid.default:
        return []
    chain = [node]
    while chain[-1].target not in CONVOLUTIONS:
        sources = tensor_inputs(chain[-1])
        rearranged = chain[-1] is node or chain[-1].target in _NEGATABLE
        if not rearranged or len(sources) != 1:
            return []
        chain.append(sources[0])
    held = all(n.op == "get_attr" for n in chain[-1].args[1:3] if isinstance(n, Node))
    return chain if held else []


def _rewrite(graph: GraphModule, node: Node, w: Node, u: Node, mask: list[Node]) -> None:
    with graph.graph.inserting_before(node):
        complement = _complement(graph, mask)
        near = _like(node, _MUL, (mask[0], w))
        far = _like(node, _MUL, (complement, u))
        result = _like(node, _ADD, (near, far))
    node.replace_all_uses_with(result)


def _complement(graph: GraphModule, mask: list[Node]) -> Node:
    """A copy of the mask's operators on negated weights."""
    convolution = mask[-1]
    held = [_negated(graph, n) if isinstance(n, Node) else n for n in convolution.args[1:3]]
    arguments = (convolution.args[0], *held, *convolution.args[3:])
    copy = _like(convolution, convolution.target, arguments)
    for before, original in zip(mask[:0:-1], mask[-2::-1], strict=True):
        arguments = tuple(copy if a is before else a for a in original.args)
        copy = _like(original, original.target, arguments)
    return copy


def _like(node: Node, target: object, arguments: tuple[object, ...]) -> Node:
    """A new operator that gives tensors of the size of ``node``'s."""
    created = node.graph.call_function(target, arguments, dict(node.kwargs))  # type: ignore[arg-type]
    created.meta = dict(node.meta)
    return created


def _negated(graph: GraphModule, node: Node) -> Node:
    original = held_tensor(graph, node)
    name = str(node.target).replace("_", "__").replace(".", "_") + "_negated"
    graph.register_parameter(name, nn.Parameter(-original.detach(), requires_grad=False))
    created = node.graph.get_attr(name)
    created.meta = dict(node.meta)
    return created
