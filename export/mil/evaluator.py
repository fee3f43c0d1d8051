"""Executes a function of an ML program with torch's CPU kernels.

Every result is checked against the shape the file declares and rounded to the type it declares;
an operation, type or parameter this does not know is an error, never skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch

import export.mil.ops  # noqa: F401 - fills the registry
from dfnet.errors import ArtifactError, DFNetError, UnsupportedError
from export.mil.arithmetic import Arithmetic, round_to
from export.mil.control import CONTROL, Control
from export.mil.dtypes import STRING
from export.mil.liveness import last_uses
from export.mil.program import Block, Constant, Function, Operation, TensorType
from export.mil.registry import OPERATIONS, Call, Value

_FRAMEWORK_FAULTS = (
    RuntimeError,
    IndexError,
    ValueError,
    TypeError,
    KeyError,
    OverflowError,
    MemoryError,
)
"""What torch and Python raise when an operation's arguments do not fit it."""

Values = dict[str, Value]


def supported_operations() -> tuple[str, ...]:
    """The operation types this evaluator knows, in alphabetical order."""
    return tuple(sorted({"const", *OPERATIONS, *CONTROL}))


def require_known(function: Function) -> None:
    """Whether every operation of ``function`` can be evaluated.

    Raises:
        UnsupportedError: some cannot; names them.
    """
    unknown = {o.type for o in function.body.walk()}.difference(supported_operations())
    if unknown:
        raise UnsupportedError(
            f"Core ML function {function.name}: got the operations "
            f"{', '.join(sorted(unknown))}, which this evaluator does not know. Replace them, "
            "or evaluate on macOS."
        )


class ProgramEvaluator:
    """A function ready to run.

    ``overflows`` maps the name of every result that became infinite by rounding to float16 to the
    largest magnitude before rounding. ``state`` holds the function's mutable tensors by name.

    Raises:
        UnsupportedError: the function has operations this does not know; names them.
    """

    def __init__(
        self,
        function: Function,
        *,
        arithmetic: Arithmetic = Arithmetic.DECLARED,
        state: dict[str, torch.Tensor] | None = None,
    ) -> None:
        self.function = function
        self.arithmetic = arithmetic
        self.overflows: dict[str, float] = {}
        self.state: dict[str, torch.Tensor] = {} if state is None else state
        require_known(function)
        self._constants: Values = {}
        self._last_uses = last_uses(function.body)

    @torch.inference_mode()
    def run(
        self, inputs: Mapping[str, torch.Tensor], *, keep: Collection[str] = ()
    ) -> dict[str, torch.Tensor]:
        """The function's outputs, and the intermediate results named in ``keep``.

        ``inputs`` have the program's layout; they are rounded to the declared types.

        Raises:
            ArtifactError: an input is missing, or a result is not what the file declares.
            UnsupportedError: an operation got a parameter it does not know.
        """
        values = self._inputs(inputs)
        kept: dict[str, torch.Tensor] = {}
        self._execute(self.function.body, values, keep=frozenset(keep), kept=kept)
        outputs = {name: self._value(name, values) for name in self.function.body.outputs}
        return {**kept, **{name: _require_tensor(name, v) for name, v in outputs.items()}}

    def _inputs(self, inputs: Mapping[str, torch.Tensor]) -> Values:
        needed = {n: t for n, t in self.function.inputs.items() if not t.is_state}
        if missing := needed.keys() - inputs.keys():
            raise ArtifactError(
                f"Core ML function {self.function.name}: got no {', '.join(sorted(missing))}, "
                f"needed the inputs {', '.join(needed)}."
            )
        values: Values = {}
        for name, declared in needed.items():
            _check_shape(f"input {name}", inputs[name], declared)
            values[name] = round_to(inputs[name], declared.dtype)
        for name in self.function.inputs.keys() - needed.keys():
            if name not in self.state:
                raise ArtifactError(
                    f"Core ML function {self.function.name}: got no state {name}, needed one."
                )
            values[name] = self.state[name]
        return values

    def _execute(
        self,
        block: Block,
        values: Values,
        *,
        keep: frozenset[str] = frozenset(),
        kept: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Runs a block's operations in ``values``, dropping the function's own intermediate
        results after their last use."""
        top = block is self.function.body
        for index, operation in enumerate(block.operations):
            self._step(operation, values)
            if top and kept is not None:
                kept.update(
                    (name, _require_tensor(name, values[name]))
                    for name, _ in operation.outputs
                    if name in keep and name in values
                )
            if top:
                for name in self._last_uses.get(index, ()):
                    values.pop(name, None)

    def _step(self, operation: Operation, values: Values) -> None:
        if operation.outputs and operation.name in self._constants:
            return
        if operation.type == "const":
            if "val" not in operation.attributes:
                raise ArtifactError(
                    f"Core ML constant {operation.name}: got no value, needed one. Export again."
                )
            self._constants[operation.name] = self._load(operation.attributes["val"])
            return
        results = self._call(operation, values)
        if len(results) != len(operation.outputs):
            raise ArtifactError(
                f"Core ML operation {operation.type} {operation.name}: got {len(results)} results, "
                f"the file declares {len(operation.outputs)}. Export again."
            )
        # Decompressed weights never change; other results belong to one run.
        target = self._constants if operation.type.startswith("constexpr_") else values
        for (name, declared), result in zip(operation.outputs, results, strict=True):
            target[name] = self._finish(operation, name, result, declared)

    def _call(self, operation: Operation, values: Values) -> Sequence[torch.Tensor]:
        arguments = {
            name: [self._bound(one, values) for one in bound]
            for name, bound in operation.inputs.items()
        }
        arguments |= {name: [self._load(c)] for name, c in operation.attributes.items()}
        try:
            if operation.type in CONTROL:
                return CONTROL[operation.type](_Inner(self, values), operation, arguments)
            call = Call(self.arithmetic, tuple(declared for _, declared in operation.outputs))
            return OPERATIONS[operation.type](call, arguments)
        except (DFNetError, *_FRAMEWORK_FAULTS) as error:
            kind = type(error) if isinstance(error, DFNetError) else ArtifactError
            reason = " ".join(str(error).split()) or type(error).__name__
            raise kind(f"Core ML operation {operation.type} {operation.name}: {reason}") from error

    def _bound(self, bound: str | Constant, values: Values) -> Value:
        return self._load(bound) if isinstance(bound, Constant) else self._value(bound, values)

    def _value(self, name: str, values: Values) -> Value:
        for known in (values, self._constants):
            if name in known:
                return known[name]
        raise ArtifactError(
            f"Core ML function {self.function.name}: got no value named {name!r}, needed one "
            "before its first use. Export again."
        )

    def _load(self, constant: Constant) -> Value:
        if constant.dtype is STRING:
            if constant.array.size != 1:
                raise UnsupportedError(f"got {constant.array.size} texts, needed one")
            return str(constant.array.reshape(-1)[0])
        try:
            return torch.from_numpy(np.array(constant.array)).to(constant.dtype.carrier)
        except (MemoryError, RuntimeError) as error:
            raise ArtifactError(
                f"Core ML constant: got shape {constant.array.shape}, which does not fit into "
                "memory. Do not trust this package."
            ) from error

    def _finish(
        self, operation: Operation, name: str, result: torch.Tensor, declared: TensorType
    ) -> torch.Tensor:
        what = f"operation {operation.type} {name}"
        _check_shape(what, result, declared)
        if result.dtype.is_floating_point != declared.dtype.is_float:
            raise ArtifactError(
                f"Core ML {what}: computed {result.dtype}, the file declares {declared.dtype.name}."
            )
        if declared.dtype.name != "fp16":
            return round_to(result, declared.dtype)
        if self.arithmetic is Arithmetic.FLOAT32:
            return result.to(torch.float32)
        rounded = round_to(result, declared.dtype)
        self._note_overflow(name, result, rounded)
        return rounded

    def _note_overflow(self, name: str, before: torch.Tensor, rounded: torch.Tensor) -> None:
        if not rounded.numel():
            return
        low, high = torch.aminmax(rounded)
        if torch.isinf(low) or torch.isinf(high):
            self.overflows[name] = float(before.abs().max())


class _Inner(Control):
    """What an operation with blocks or state may do; see ``export.mil.control``."""

    def __init__(self, evaluator: ProgramEvaluator, values: Values) -> None:
        self._evaluator = evaluator
        self._values = values

    def run(self, block: Block, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        values = {**self._values, **dict(zip(block.inputs, arguments, strict=True))}
        self._evaluator._execute(block, values)
        return [
            _require_tensor(name, self._evaluator._value(name, values)) for name in block.outputs
        ]


def _check_shape(what: str, value: torch.Tensor, declared: TensorType) -> None:
    if declared.shape is None:
        return
    shape = tuple(value.shape)
    if len(shape) != len(declared.shape) or any(
        want is not None and want != have for want, have in zip(declared.shape, shape, strict=True)
    ):
        raise ArtifactError(
            f"Core ML {what}: got shape {shape}, the file declares {declared.shape}. Export again."
        )


def _require_tensor(name: str, value: Value) -> torch.Tensor:
    if isinstance(value, str):
        raise ArtifactError(f"Core ML value {name}: got a text, needed a tensor. Export again.")
    return value
