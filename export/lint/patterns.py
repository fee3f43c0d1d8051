"""The uses of an operator that a rule is about, where not every use is."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from quantize.dataflow import CONVOLUTIONS

_aten = torch.ops.aten

_ARITHMETIC = frozenset({_aten.add.Tensor, _aten.mul.Tensor})
_PASSED_THROUGH = frozenset(
    {
        _aten.relu.default,
        _aten.relu_.default,
        _aten.clamp.default,
        _aten.clamp_.default,
        _aten.avg_pool2d.default,
        _aten.upsample_bilinear2d.vec,
        *_ARITHMETIC,
    }
)
"""Behind these, litert-torch 0.10.0 still finds the convolution whose sign it then flips; behind
sigmoid, tanh and leaky_relu it does not."""


_LIFTED = ("p_", "b_", "c_")
"""How torch.export names the placeholders of parameters, buffers and constants."""


def constant_first(node: Node) -> bool:
    """``constant - x``, ``constant / x`` and ``1 / x`` where x comes out of a convolution."""
    operands = node.args
    if node.target in (_aten.sub.Tensor, _aten.div.Tensor):
        return _is_constant(operands[0]) and _from_convolution(operands[1])
    return _from_convolution(operands[0])


def _is_constant(argument: Any) -> bool:
    if not isinstance(argument, Node):
        return True
    lifted = argument.op == "placeholder" and argument.name.startswith(_LIFTED)
    return argument.op == "get_attr" or lifted


def _from_convolution(argument: Any) -> bool:
    """Whether a tensor is a convolution's result, but for operators that keep the trap open."""
    while isinstance(argument, Node) and argument.target in _PASSED_THROUGH:
        if argument.target in _ARITHMETIC and not _is_constant(argument.args[1]):
            return False
        argument = argument.args[0]
    return isinstance(argument, Node) and argument.target in CONVOLUTIONS


def clamps_to_unit(node: Node) -> bool:
    """``clamp(0, 1)``, which becomes an operator of its own."""
    return _bounds(node) == (0, 1)


def clamps_elsewhere(node: Node) -> bool:
    """To bounds that are no activation of LiteRT's, or against another tensor."""
    return _bounds(node) not in {(0, 1), (-1, 1), (0, 6), (0, None)}


def _bounds(node: Node) -> tuple[Any, Any]:
    bounds = (*node.args[1:3], None, None)
    return bounds[0], bounds[1]


def shares_its_input(node: Node) -> bool:
    """Whether anything else reads what ``node`` does."""
    return any(len(source.users) > 1 for source in node.all_input_nodes)


def not_by_a_number(node: Node) -> bool:
    """All but a division by a plain number, which is a multiplication."""
    divides = node.target is _aten.div.Tensor
    return not divides or isinstance(node.args[1], Node)


def not_last_dimension(node: Node) -> bool:
    """Over another dimension than the last one, which delegates do take."""
    return not _takes_the_last(node)


def last_of_four_dimensions(node: Node) -> bool:
    """Along the rows of a picture."""
    return _takes_the_last(node) and _rank(node) == 4


def _takes_the_last(node: Node) -> bool:
    return bool(node.args[1] in (-1, _rank(node) - 1))


def _rank(node: Node) -> int:
    return int(node.meta["val"].dim())


def pads_from_the_picture(node: Node) -> bool:
    """Reflecting, replicating or circular."""
    return _mode(node) in ("reflect", "replicate", "circular")


def pads_with_a_constant(node: Node) -> bool:
    """Zeros, as a rule."""
    return bool(_mode(node) == "constant")


def pads_before_a_slice(node: Node) -> bool:
    """What is padded and cut again."""
    return pads_with_a_constant(node) and any(n.target is _aten.slice.Tensor for n in node.users)


def leaves_out_the_stride(node: Node) -> bool:
    """Pooling whose stride is the kernel's size by default."""
    return len(node.args) < 3 or not node.args[2]


def _mode(node: Node) -> Any:
    return node.args[2] if len(node.args) > 2 else "constant"


def with_a_number(node: Node) -> bool:
    """Arithmetic of a tensor and a plain number, which has no codes."""
    return not all(isinstance(operand, Node) for operand in node.args[:2])


def repeats_a_tensor(node: Node) -> bool:
    """One tensor that occurs twice among those concatenated."""
    tensors = node.args[0]
    assert isinstance(tensors, list | tuple)
    return len(set(tensors)) < len(tensors)
