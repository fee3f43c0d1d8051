"""Calls one operation of the Core ML evaluator, without a program around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import export.mil.ops  # noqa: F401 - fills the registry
from export.mil.arithmetic import Arithmetic
from export.mil.dtypes import dtype_named
from export.mil.program import TensorType
from export.mil.registry import OPERATIONS, Call, Value

Array = npt.NDArray[Any]


def run(type_: str, **arguments: Any) -> Array:
    """The only result of an operation; see ``run_all``."""
    (result,) = run_all(type_, **arguments)
    return result


def run_all(
    type_: str, *, declared: str = "fp32", sums: Arithmetic = Arithmetic.DECLARED, **arguments: Any
) -> list[Array]:
    """The results of an operation that declares ``declared``; a tuple stands for several values of
    one parameter."""
    call = Call(sums, (TensorType(dtype_named(declared), None),))
    bound = {
        name: [_value(one) for one in (value if isinstance(value, tuple) else (value,))]
        for name, value in arguments.items()
    }
    return [np.asarray(result.numpy()) for result in OPERATIONS[type_](call, bound)]


def _value(one: Any) -> Value:
    # A copy, so that no operation can change a test's own array.
    return one if isinstance(one, str | torch.Tensor) else torch.tensor(one)


def counted(*shape: int) -> npt.NDArray[np.float32]:
    """0, 1, 2, ... in ``shape``."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def reals(*values: float) -> npt.NDArray[np.float32]:
    """A vector of float32."""
    return np.array(values, np.float32)
