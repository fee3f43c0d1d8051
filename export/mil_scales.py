"""The scales a Core ML program holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from export.mil.program import Constant, Function, Operation
from export.scales import ConvolutionScales, Format, Quantization, TensorScale, signed, weight_bytes

_CONVOLUTIONS = ("conv", "conv_transpose", "linear")
_WEIGHT = "constexpr_affine_dequantize"
_QUANTIZE, _DEQUANTIZE = "quantize", "dequantize"
_CONSTANTS = frozenset({"const", _WEIGHT})
_NO_ARITHMETIC = _CONSTANTS | {_QUANTIZE, _DEQUANTIZE, "cast"}
_SUMS = ("add", "sub")
_STORED: dict[str, Format] = {"fp16": "float16", "fp32": "float32"}
_ROUNDINGS = 4
"""Of a scale that coremltools divided: two quotients and both their divisors."""


def read_scales(function: Function) -> Quantization:
    """The int8 tensors of a program, in its order; uint8 ones with the zero points of int8.

    coremltools divides the scales around an int8 sum by the scale of one operand (its pass
    ``distributive_quantized_binary_op_scale_normalization``). They are multiplied back here, and
    ``remarks`` counts them.
    """
    return _Reader(function).read()


def computed_in_float(function: Function) -> dict[str, int]:
    """Counts by type of operators that a program declares in floating point.

    One whose operands all come from ``dequantize`` and whose result only ``quantize`` reads is
    left out: Core ML's compiler chooses how to compute it.
    """
    return _Reader(function).floats()


class _Reader:
    """``units[name]`` is what the real numbers of a float tensor have been divided by, if they
    have."""

    def __init__(self, function: Function) -> None:
        self._operations = list(function.body.walk())
        self._makers = {name: o for o in self._operations for name, _ in o.outputs}
        self._users: dict[str, list[Operation]] = defaultdict(list)
        for operation in self._operations:
            for name in (name for bound in operation.inputs.values() for name in bound):
                if isinstance(name, str):
                    self._users[name].append(operation)
        self._tensors: dict[str, TensorScale] = {}
        self._units: dict[str, float] = {}
        self._requantized: list[tuple[TensorScale, TensorScale]] = []
        self._moved = 0

    def read(self) -> Quantization:
        steps = {
            _QUANTIZE: self._quantize,
            _DEQUANTIZE: self._dequantize,
            "relu": self._relu,
            **dict.fromkeys(_SUMS, self._sum),
        }
        for operation in self._operations:
            if operation.type in steps:
                steps[operation.type](operation)
        return Quantization(
            tuple(self._convolutions()),
            tuple(self._tensors.values()),
            tuple(self._requantized),
            tuple(self._remarks()),
        )

    def floats(self) -> dict[str, int]:
        found = Counter(
            operation.type
            for operation in self._operations
            if operation.type not in _NO_ARITHMETIC and not self._between_codes(operation)
        )
        return dict(sorted(found.items()))

    def _between_codes(self, operation: Operation) -> bool:
        names = [name for bound in operation.inputs.values() for name in bound]
        makers = [self._makers.get(name) for name in names if isinstance(name, str)]
        # An input of the program has no maker, and is a floating-point number.
        sources = {"input" if maker is None else maker.type for maker in makers} - _CONSTANTS
        users = {user.type for name, _ in operation.outputs for user in self._users[name]}
        return sources == {_DEQUANTIZE} and users == {_QUANTIZE}

    def _quantize(self, operation: Operation) -> None:
        stated, unit = self._stated(operation), self._unit(operation, "input")
        if unit is not None:
            self._moved += 1
            stated = replace(stated, scale=(stated.scale[0] * unit,), roundings=_ROUNDINGS)
        self._tensors[operation.name] = stated
        source = self._maker(operation, "input")
        if source is not None and source.type == _DEQUANTIZE and unit is None:
            before = self._stated(source)
            if not before.equals(stated):
                self._requantized.append((before, stated))

    def _dequantize(self, operation: Operation) -> None:
        codes = _argument(operation, "input")
        if not isinstance(codes, str) or codes not in self._tensors:
            return
        known, stated = self._tensors[codes], self._stated(operation)
        if not stated.equals(known):
            self._units[operation.name] = known.scale[0] / stated.scale[0]
        elif known.roundings > stated.roundings:
            self._tensors[codes] = replace(stated, name=codes)

    def _relu(self, operation: Operation) -> None:
        self._pass_on(operation, self._unit(operation, "x"))

    def _sum(self, operation: Operation) -> None:
        """Operands divided by the same number give a result divided by it; any other sum leaves a
        scale that no graph has."""
        x, y = (self._unit(operation, name) for name in ("x", "y"))
        if x is not None and y is not None and abs(x / y - 1) <= _ROUNDINGS * 2.0**-10:
            self._pass_on(operation, x)

    def _pass_on(self, operation: Operation, unit: float | None) -> None:
        if unit is not None:
            self._units[operation.name] = unit

    def _unit(self, operation: Operation, parameter: str) -> float | None:
        name = _argument(operation, parameter)
        return self._units.get(name) if isinstance(name, str) else None

    def _convolutions(self) -> Iterator[ConvolutionScales]:
        for operation in self._operations:
            if operation.type not in _CONVOLUTIONS:
                continue
            source, weight = self._maker(operation, "x"), self._maker(operation, "weight")
            if source is None or weight is None:
                continue
            if (source.type, weight.type) == (_DEQUANTIZE, _WEIGHT):
                yield self._convolution(operation, source, weight)

    def _convolution(
        self, operation: Operation, source: Operation, weight: Operation
    ) -> ConvolutionScales:
        result = self._result(operation)
        axis = int(weight.attributes["axis"].array)
        return ConvolutionScales(
            operation.name,
            weight_bytes(weight.attributes["quantized_data"].array, axis),
            _tensor(weight.name, weight.attributes["scale"], weight.attributes["zero_point"]),
            self._stated(source),
            None if result is None else self._stated(result),
        )

    def _result(self, operation: Operation) -> Operation | None:
        """What quantizes the result of ``operation``, or of the ReLU that alone consumes it."""
        users = self._users[operation.name]
        if len(users) == 1 and users[0].type == "relu":
            users = self._users[users[0].name]
        return next((user for user in users if user.type == _QUANTIZE), None)

    def _stated(self, operation: Operation) -> TensorScale:
        """What a quantize or dequantize operation itself says of its codes."""
        scale, zero_point = (self._constant(operation, n) for n in ("scale", "zero_point"))
        assert scale is not None
        if zero_point is None:
            # Left out where it is zero; uint8 codes are then told from int8 by their type.
            return replace(_tensor(operation.name, scale, None), zero_point=self._zero(operation))
        return _tensor(operation.name, scale, zero_point)

    def _zero(self, operation: Operation) -> int:
        """A zero point of zero, as that of int8 codes."""
        maker = self._maker(operation, "input") if operation.type == _DEQUANTIZE else operation
        return signed(0, maker.outputs[0][1].dtype.name if maker is not None else "int8")

    def _constant(self, operation: Operation, parameter: str) -> Constant | None:
        if parameter not in operation.inputs:
            return None
        value = _argument(operation, parameter)
        return self._makers[value].attributes["val"] if isinstance(value, str) else value

    def _maker(self, operation: Operation, parameter: str) -> Operation | None:
        name = _argument(operation, parameter)
        return self._makers.get(name) if isinstance(name, str) else None

    def _remarks(self) -> Iterator[str]:
        if self._moved:
            yield (
                f"{self._moved} int8 sums: coremltools divided the scales of their operands and "
                "result by the scale of one operand; the codes keep their meaning."
            )
        if any(tensor.stored == "float16" for tensor in self._tensors.values()):
            yield "Scales are stored as float16, the nearest number to each."


def _argument(operation: Operation, parameter: str) -> str | Constant:
    return operation.inputs[parameter][0]


def _tensor(name: str, scale: Constant, zero_point: Constant | None) -> TensorScale:
    points = np.atleast_1d(zero_point.array) if zero_point is not None else np.zeros(1, np.int8)
    return TensorScale(
        name,
        tuple(map(float, np.atleast_1d(scale.array))),
        signed(int(points[0]), points.dtype.name),
        _STORED[scale.dtype.name],
    )
