"""The int8 tensors of a prepared graph as a study names them: where they are, what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from quantize.dataflow import CONVOLUTIONS, module_names
from quantize.observers import ActivationQuantizer, WeightQuantizer, activations, weights
from quantize.quantizer import RELUS

_aten = torch.ops.aten
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class QuantizedTensor:
    """One weight or activation; ``name``, its module and its operator, is unique in a program.

    ``block`` is, for a weight, the innermost module that holds its convolution and the ReLU after
    it: the least that can be kept float without a rounding in between. ``readers`` are, for an
    activation, the modules of the int8 operators that read it.
    """

    name: str
    kind: str
    module: str
    block: str
    readers: tuple[str, ...]
    macs: int


@dataclass(frozen=True)
class Cost:
    """What a recipe computes, and what of it in higher precision than int8.

    ``macs`` are all multiply-accumulates at the size that was traced, ``mac_share`` is the share
    of them that is not int8, ``weight_bytes`` is what its float weights take. ``boundaries`` counts
    the tensors that are handed over from float to int8 operators or back: an estimate of the
    quantize and dequantize operators that stay, and of breaks in a delegate.
    """

    macs: int
    mac_share: float
    weight_bytes: int
    boundaries: int


def quantized_tensors(
    prepared: GraphModule,
) -> dict[ActivationQuantizer | WeightQuantizer, QuantizedTensor]:
    """Every tensor that can be float or int8 on its own, weights first."""
    found: dict[ActivationQuantizer | WeightQuantizer, QuantizedTensor] = {}
    for weight in weights(prepared):
        readers = [n for n in _convolutions(prepared) if _quantizer(prepared, n.args[1]) is weight]
        found[weight] = _weight(readers)
    for activation, node in activations(prepared).items():
        found[activation] = _activation(prepared, activation, node)
    return found


def cost_of(prepared: GraphModule) -> Cost:
    """What the convolutions and hand-overs of a prepared graph cost."""
    convolutions = _convolutions(prepared)
    kept = [node for node in convolutions if not _is_int8(node)]
    total = sum(map(macs, convolutions))
    held = {_source(node.args[1]) for node in kept}
    return Cost(
        macs=total,
        mac_share=sum(map(macs, kept)) / total,
        weight_bytes=_FLOAT_BYTES * sum(math.prod(_shape(node)) for node in held),
        boundaries=len(_boundaries(prepared)),
    )


def macs(convolution: Node) -> int:
    """Multiplications of one convolution at the size it was traced at.

    Shares of a network's total do not depend on the size.
    """
    weight = _shape(_source(convolution.args[1]))
    size = _shape(convolution)
    if convolution.target is _aten.conv_transpose2d.input:
        # Its weight is (in, out / groups, kh, kw), applied at every pixel of its input.
        size = _shape(_source(convolution.args[0]))
    return math.prod((*size, *weight[1:]))


def _weight(readers: list[Node]) -> QuantizedTensor:
    first = readers[0]
    module = _innermost(first)
    return QuantizedTensor(
        name=f"{module} {first.name} weight".lstrip(),
        kind="weight",
        module=module,
        block=_block(first),
        readers=(),
        macs=sum(map(macs, readers)),
    )


def _activation(
    prepared: GraphModule, quantizer: ActivationQuantizer, node: Node
) -> QuantizedTensor:
    module = _innermost(node)
    observers = [n for n in prepared.graph.nodes if _quantizer(prepared, n) is quantizer]
    int8 = [user for n in observers for user in n.users if _is_int8(user)]
    return QuantizedTensor(
        name=f"{module} {node.name}".lstrip(),
        kind="activation",
        module=module,
        block="",
        readers=tuple(sorted({_innermost(user) for user in int8})),
        macs=0,
    )


def _block(convolution: Node) -> str:
    stack = module_names(convolution)
    users = list(convolution.users)
    if len(users) == 1 and users[0].target in RELUS:
        common = [name for name in module_names(users[0]) if name in stack and name]
        return common[-1] if common else _innermost(convolution)
    return _innermost(convolution)


def _boundaries(prepared: GraphModule) -> set[tuple[Node, bool]]:
    """Tensors, and whether an int8 operator reads them, that the other kind produces."""
    found = set()
    for node in prepared.graph.nodes:
        if node.op in ("call_function", "output"):
            for source in map(_source, _activations_of(node)):
                if _is_int8(source) is not _is_int8(node):
                    found.add((source, _is_int8(node)))
    return found


def _activations_of(node: Node) -> list[Node]:
    """The tensors ``node`` reads that are no constants."""
    tensors = [n for n in node.all_input_nodes if _source(n).op != "get_attr"]
    return [n for n in tensors if isinstance(_source(n).meta.get("val"), torch.Tensor)]


def _convolutions(prepared: GraphModule) -> list[Node]:
    return [node for node in prepared.graph.nodes if node.target in CONVOLUTIONS]


def _is_int8(node: Node) -> bool:
    return Q_ANNOTATION_KEY in node.meta


def _source(node: object) -> Node:
    """The tensor that a chain of quantizers stands for; ``node`` itself if it is none."""
    assert isinstance(node, Node)
    while node.op == "call_module":
        parent = node.args[0]
        assert isinstance(parent, Node)
        node = parent
    return node


def _quantizer(prepared: GraphModule, node: object) -> object:
    if isinstance(node, Node) and node.op == "call_module":
        return prepared.get_submodule(str(node.target))
    return None


def _shape(node: Node) -> tuple[int, ...]:
    """Of the example it was traced with: open sizes are symbols that remember it."""
    shape = node.meta["val"].shape
    return tuple(n if isinstance(n, int) else int(n.node.hint) for n in shape)


def _innermost(node: Node) -> str:
    return next((name for name in reversed(module_names(node)) if name), "")
