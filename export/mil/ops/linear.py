"""Products of matrices.

Follows coremltools' MIL definitions ``iOS15/linear.py``, ``iOS17/linear.py`` and
``iOS18/transformers.py``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from dfnet.errors import UnsupportedError
from export.mil.arithmetic import PARTIAL_SUM, add_in_float16
from export.mil.registry import Call, Tensor, Tensors, operation

_EINSUM_PATTERNS = ("abcd,adce->abce", "abc,cbd->abd")
"""The equations MIL knows, ``nchw,nwhu->nchu`` and ``chw,whr->chr``, with their letters renamed
in order of appearance."""


@operation("linear")
def _linear(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not call.sums_in_float16 and x.dtype == weight.dtype:
        return F.linear(x, weight, None if bias is None else bias.to(x.dtype))
    product = _product(call, x, weight.T)
    return product if bias is None else product + bias


@operation("matmul")
def _matmul(
    call: Call, x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False
) -> Tensor:
    """``transpose_*`` has no effect on a vector."""
    if transpose_x and x.dim() > 1:
        x = x.transpose(-1, -2)
    if transpose_y and y.dim() > 1:
        y = y.transpose(-1, -2)
    return _product(call, x, y)


@operation("einsum")
def _einsum(call: Call, values: Tensors, equation: str) -> Tensor:
    """A product of the dimensions -3 and -1, for every index of the dimension between them."""
    if _pattern(equation) not in _EINSUM_PATTERNS or len(values) != 2:
        raise UnsupportedError(
            f"got the equation {equation!r} for {len(values)} tensors, needed one like "
            "nchw,nwhu->nchu or chw,whr->chr for two"
        )
    x, y = (value.transpose(-2, -3) for value in values)
    return _product(call, x, y).transpose(-2, -3)


def _pattern(equation: str) -> str:
    names: dict[str, str] = {}
    return "".join(
        names.setdefault(letter, chr(ord("a") + len(names))) if letter.isalpha() else letter
        for letter in equation
        if not letter.isspace()
    )


@operation("scaled_dot_product_attention")
def _scaled_dot_product_attention(
    call: Call, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
) -> Tensor:
    """By MIL's formula: torch's own kernel differs where a mask hides everything."""
    scores = _product(call, query, key.transpose(-1, -2)) / math.sqrt(query.shape[-1])
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return _product(call, torch.softmax(scores, dim=-1), value)


def _product(call: Call, x: Tensor, y: Tensor) -> Tensor:
    if x.dtype != y.dtype:
        # MIL admits a float and an integer matrix together, and declares the type of the product.
        product = torch.matmul(x.to(torch.float32), y.to(torch.float32))
        return product.to(call.outputs[0].dtype.carrier)
    if not call.sums_in_float16:
        return torch.matmul(x, y)
    inner = -1 if y.dim() == 1 else -2
    return add_in_float16(
        torch.matmul(part_of_x, part_of_y)
        for part_of_x, part_of_y in zip(
            torch.split(x, PARTIAL_SUM, dim=-1), torch.split(y, PARTIAL_SUM, dim=inner), strict=True
        )
    )
