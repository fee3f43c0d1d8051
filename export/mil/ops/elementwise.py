"""Element by element: unary and binary maths, comparison, logic, selection and casts.

Follows coremltools' MIL definitions ``iOS15/elementwise_unary.py``, ``iOS15/elementwise_binary.py``
and ``iOS17/elementwise_unary.py``, and ``select`` of ``iOS15/control_flow.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from export.mil.dtypes import dtype_named
from export.mil.registry import Call, Tensor, one_of, operation

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "floor": torch.floor,
    "logical_not": torch.logical_not,
    # Halves to even, as numpy does, which is what the MIL definition evaluates with.
    "round": torch.round,
    "sign": torch.sign,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
}

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "equal": torch.eq,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    # The result has the divisor's sign, as in Python.
    "mod": torch.remainder,
    "mul": torch.mul,
    "not_equal": torch.ne,
    "pow": torch.pow,
    "sub": torch.sub,
}

_CASTS = ("int8", "uint8", "int16", "uint16", "int32", "fp16", "fp32", "bool")


def _register_unary(type_: str, function: Callable[[Tensor], Tensor]) -> None:
    @operation(type_)
    def _unary(x: Tensor) -> Tensor:
        return function(x)


def _register_binary(type_: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    @operation(type_)
    def _binary(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)


for _type, _function in _UNARY.items():
    _register_unary(_type, _function)
for _type, _binary_function in _BINARY.items():
    _register_binary(_type, _binary_function)


@operation("exp2")
def _exp2(x: Tensor) -> Tensor:
    """MIL allows int32 here and types the result like the input."""
    if x.is_floating_point():
        return torch.exp2(x)
    return torch.exp2(x.double()).to(x.dtype)


@operation("inverse")
def _inverse(call: Call, x: Tensor, epsilon: float | None = None) -> Tensor:
    return torch.reciprocal(x + _epsilon(call, epsilon, 1e-4))


@operation("log")
def _log(call: Call, x: Tensor, epsilon: float | None = None) -> Tensor:
    return torch.log(x + _epsilon(call, epsilon, 1e-45))


@operation("rsqrt")
def _rsqrt(call: Call, x: Tensor, epsilon: float | None = None) -> Tensor:
    return torch.rsqrt(x + _epsilon(call, epsilon, 1e-12))


def _epsilon(call: Call, given: float | None, default: float) -> float:
    """MIL rounds the default to the type of ``x``: in float16, those of log and rsqrt are 0."""
    if given is not None:
        return given
    return torch.tensor(default, dtype=torch.float16).item() if call.half else default


@operation("threshold")
def _threshold(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.maximum(x, alpha)


@operation("clip")
def _clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(x, alpha, beta)


@operation("real_div")
def _real_div(x: Tensor, y: Tensor) -> Tensor:
    """MIL types the quotient of integers as an integer; it is cut off towards zero."""
    if x.is_floating_point() or y.is_floating_point():
        return torch.div(x, y)
    return torch.div(x, y, rounding_mode="trunc")


@operation("floor_div")
def _floor_div(x: Tensor, y: Tensor) -> Tensor:
    return torch.div(x, y, rounding_mode="floor")


@operation("select")
def _select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond, a, b)


@operation("cast")
def _cast(x: Tensor, dtype: str) -> Tensor:
    """Reals to integers: towards zero, NaN to 0, and what does not fit to the nearest that does
    (C leaves that undefined; ARM's conversion saturates). Integers to integers: modulo, as numpy
    does where MIL folds constants."""
    target = dtype_named(one_of("dtype", dtype, _CASTS))
    if target.name == "bool":
        return x != 0
    if target.is_float:
        return x.to(target.carrier)
    low = -(1 << (target.bits - 1)) if target.is_signed else 0
    high = low + (1 << target.bits) - 1
    if x.is_floating_point():
        # float64, because float32 has no 2**31 - 1.
        whole = torch.nan_to_num(torch.trunc(x.double()), nan=0.0)
        return whole.clamp(low, high).to(target.carrier)
    return (torch.remainder(x.long() - low, 1 << target.bits) + low).to(target.carrier)
