"""Operations that run blocks of operations, or read and write a function's state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch

from dfnet.errors import UnsupportedError
from export.mil.program import Block, Operation
from export.mil.registry import Value

LOOP_LIMIT = 100_000
"""Iterations after which a loop counts as endless; a choice of ours."""


class Control(ABC):
    """What these operations need of the evaluator."""

    @abstractmethod
    def run(self, block: Block, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Runs an inner block with values for its inputs; returns its outputs."""


Arguments = Mapping[str, Sequence[Value]]
_ControlOperation = Callable[[Control, Operation, Arguments], Sequence[torch.Tensor]]


def _cond(control: Control, operation: Operation, arguments: Arguments) -> Sequence[torch.Tensor]:
    chosen = 0 if _truth(arguments["pred"][0]) else 1
    return control.run(operation.blocks[chosen], ())


def _while_loop(
    control: Control, operation: Operation, arguments: Arguments
) -> Sequence[torch.Tensor]:
    condition, body = operation.blocks
    values = [_tensor([value]) for value in arguments["loop_vars"]]
    for _ in range(LOOP_LIMIT):
        if not _truth(control.run(condition, values)[0]):
            return values
        values = control.run(body, values)
    raise UnsupportedError(f"got more than {LOOP_LIMIT} iterations, needed a loop that ends")


def _read_state(
    control: Control, operation: Operation, arguments: Arguments
) -> Sequence[torch.Tensor]:
    # A copy: what was read stays as it was when the state changes later.
    return (_tensor(arguments["input"]).clone(),)


def _write_state(
    control: Control, operation: Operation, arguments: Arguments
) -> Sequence[torch.Tensor]:
    _tensor(arguments["input"]).copy_(_tensor(arguments["data"]))
    return ()


def _tensor(values: Sequence[Value]) -> torch.Tensor:
    (value,) = values
    if isinstance(value, str):
        raise UnsupportedError("got a text, needed a tensor")
    return value


def _truth(value: Value) -> bool:
    if isinstance(value, str) or value.numel() != 1:
        raise UnsupportedError("got no single truth value for a condition, needed one")
    return bool(value)


CONTROL: dict[str, _ControlOperation] = {
    "cond": _cond,
    "while_loop": _while_loop,
    "read_state": _read_state,
    "write_state": _write_state,
}
"""Operation type -> implementation."""
