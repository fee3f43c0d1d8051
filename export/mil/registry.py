"""The table of operations, and how a program's parameters become a function's arguments.

An operation is a plain function whose parameters have the names MIL gives them (coremltools,
``converters/mil/mil/ops/defs``). Its annotations say what it takes: a ``Tensor``, ``Tensors`` for
a variadic parameter, ``Ints`` or ``Bools`` for a short vector, ``int``, ``float``, ``bool`` or
``str`` for one value. Parameters with a default are optional in MIL. A parameter of type ``Call``
receives what else is known of the call and is not the program's.

Functions return unrounded results: the evaluator rounds them to the declared types.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

import torch

from dfnet.errors import UnsupportedError
from export.mil.arithmetic import Arithmetic
from export.mil.program import TensorType

Tensor = torch.Tensor
Tensors = tuple[torch.Tensor, ...]
Ints = tuple[int, ...]
Bools = tuple[bool, ...]

Value = torch.Tensor | str
"""What a name in a program stands for: a tensor, or a text parameter."""
Result = Tensor | Sequence[Tensor]
_Implementation = Callable[..., Result]


@dataclass(frozen=True)
class Call:
    """What an operation may need to know besides its arguments.

    ``outputs`` are the types the program declares for its results, and ``half`` tells whether the
    first of them is float16.
    """

    arithmetic: Arithmetic
    outputs: tuple[TensorType, ...]

    @property
    def half(self) -> bool:
        return bool(self.outputs) and self.outputs[0].dtype.name == "fp16"

    @property
    def sums_in_float16(self) -> bool:
        """Whether this call must add its partial sums in float16."""
        return self.half and self.arithmetic is Arithmetic.FLOAT16_SUMS


@dataclass(frozen=True)
class _Parameter:
    annotation: str
    required: bool


class Kernel:
    """An operation's implementation with its parameters."""

    def __init__(self, type_: str, function: _Implementation) -> None:
        self._type = type_
        self._function = function
        hints = get_type_hints(function)
        self._parameters: dict[str, _Parameter] = {}
        self._call_name: str | None = None
        for parameter in inspect.signature(function).parameters.values():
            annotation = _name_of(hints[parameter.name])
            if annotation == "Call":
                self._call_name = parameter.name
            else:
                required = parameter.default is inspect.Parameter.empty
                self._parameters[parameter.name] = _Parameter(annotation, required)

    def __call__(self, call: Call, arguments: Mapping[str, Sequence[Value]]) -> Sequence[Tensor]:
        """Runs the operation on the values bound to its parameters.

        Raises:
            UnsupportedError: an unknown or a missing parameter, or a value this does not know.
        """
        keywords = self._bind(arguments)
        if self._call_name is not None:
            keywords[self._call_name] = call
        result = self._function(**keywords)
        return (result,) if isinstance(result, torch.Tensor) else result

    def _bind(self, arguments: Mapping[str, Sequence[Value]]) -> dict[str, Any]:
        unknown = arguments.keys() - self._parameters.keys()
        missing = {n for n, p in self._parameters.items() if p.required} - arguments.keys()
        if unknown or missing:
            raise UnsupportedError(
                f"got {sorted(unknown) or 'no'} unknown and {sorted(missing) or 'no'} missing "
                f"parameters, needed {', '.join(self._parameters)}"
            )
        return {
            name: _convert(name, values, self._parameters[name].annotation)
            for name, values in arguments.items()
        }


OPERATIONS: dict[str, Kernel] = {}
"""Operation type -> kernel; filled by the modules of ``export.mil.ops``."""


def operation(*types: str) -> Callable[[_Implementation], _Implementation]:
    """Registers a function as the implementation of the MIL operations ``types``.

    Raises:
        ValueError: a type is registered already.
    """

    def register(function: _Implementation) -> _Implementation:
        for type_ in types:
            if type_ in OPERATIONS:
                raise ValueError(f"operation {type_} is registered twice")
            OPERATIONS[type_] = Kernel(type_, function)
        return function

    return register


def one_of(what: str, got: str, choices: Sequence[str]) -> str:
    """``got``, if it is a choice; for parameters such as padding modes.

    Raises:
        UnsupportedError: it is not; lists the choices.
    """
    if got not in choices:
        raise UnsupportedError(f"got {what} {got!r}, needed one of {', '.join(choices)}")
    return got


def _name_of(hint: Any) -> str:
    names: dict[Any, str] = {
        Tensor: "Tensor",
        Tensors: "Tensors",
        Ints: "Ints",
        Bools: "Bools",
        int: "int",
        float: "float",
        bool: "bool",
        str: "str",
        Call: "Call",
    }
    options = [names[option] for option in names if hint == option or hint == option | None]
    if len(options) != 1:
        raise TypeError(f"an operation cannot take {hint}")
    return options[0]


def _convert(name: str, values: Sequence[Value], annotation: str) -> Any:
    if annotation == "Tensors":
        return tuple(_tensor(name, value) for value in values)
    if len(values) != 1:
        raise UnsupportedError(f"got {len(values)} values for {name}, needed one")
    (value,) = values
    if annotation == "str":
        if not isinstance(value, str):
            raise UnsupportedError(f"got a tensor for {name}, needed a text")
        return value
    tensor = _tensor(name, value)
    if annotation == "Tensor":
        return tensor
    numbers = tensor.reshape(-1).tolist()
    if annotation == "Ints":
        return tuple(int(n) for n in numbers)
    if annotation == "Bools":
        return tuple(bool(n) for n in numbers)
    if len(numbers) != 1:
        raise UnsupportedError(f"got {len(numbers)} numbers for {name}, needed one")
    return {"int": int, "float": float, "bool": bool}[annotation](numbers[0])


def _tensor(name: str, value: Value) -> Tensor:
    if not isinstance(value, torch.Tensor):
        raise UnsupportedError(f"got the text {value!r} for {name}, needed a tensor")
    return value
