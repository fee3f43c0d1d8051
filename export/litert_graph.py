"""What a .tflite file says about itself, and where LiteRT runs each of its operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from dfnet.manifest import Delegation, TensorSpec
from dfnet.signature import INPUTS, OUTPUT
from export.stored import BYTE_LAYOUT

CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"})
TRANSPOSED = "TRANSPOSE_CONV"
_DELEGATE = "DELEGATE"
_DEQUANTIZE = "DEQUANTIZE"


@dataclass(frozen=True)
class Operator:
    """One operator of the file: its name, its result's dtype and name, and its tensors' indices."""

    name: str
    dtype: str
    result: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_operators(model: bytes) -> tuple[Operator, ...]:
    """The operators of the file's first subgraph, in order of execution."""
    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    graph = parsed.subgraphs[0]
    names = [_code_name(code) for code in parsed.operatorCodes]
    dtypes = _names_of(schema.TensorType)
    found = []
    for operator in graph.operators:
        result = graph.tensors[operator.outputs[0]]
        found.append(
            Operator(
                names[operator.opcodeIndex],
                dtypes[result.type].lower(),
                result.name.decode(),
                _indices(operator.inputs),
                _indices(operator.outputs),
            )
        )
    return tuple(found)


def tensor_names(model: bytes) -> frozenset[str]:
    """Names of all tensors of the file's first subgraph."""
    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0)).subgraphs[0]
    return frozenset(tensor.name.decode() for tensor in graph.tensors)


def _code_name(code: Any) -> str:
    # Files from before 2021 keep the code in the deprecated one-byte field.
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    if builtin == schema.BuiltinOperator.CUSTOM:
        return f"CUSTOM {code.customCode.decode()}"
    return _names_of(schema.BuiltinOperator)[builtin]


def _names_of(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _indices(values: Iterable[int]) -> tuple[int, ...]:
    """Tensor indices without -1, which marks an optional input that is absent."""
    return tuple(int(value) for value in values if value >= 0)


def histogram(operators: Iterable[Operator]) -> dict[str, int]:
    """Counts of operators by name and dtype of the result: ``{"CONV_2D int8": 37}``."""
    return dict(sorted(Counter(f"{op.name} {op.dtype}" for op in operators).items()))


def computed_in_float(operators: Iterable[Operator]) -> dict[str, int]:
    """Counts by name of operators whose result is a floating-point number; those that only turn
    codes into numbers are left out."""
    names = (op.name for op in operators if "float" in op.dtype and op.name != _DEQUANTIZE)
    return dict(sorted(Counter(names).items()))


def float_convolutions(operators: Iterable[Operator]) -> tuple[Operator, ...]:
    """The convolutions that compute in floating point."""
    return tuple(op for op in operators if op.name in CONVOLUTIONS and "float" in op.dtype)


def read_delegation(interpreter: Interpreter, operators: Sequence[Operator]) -> Delegation:
    """Which operators the interpreter's XNNPACK delegate took; the others are ``portable``."""
    delegates = _delegates(interpreter)
    inside = {index for node in delegates for index in _covered(node, operators)}
    counts: dict[str, Counter[str]] = {"portable": Counter(), "xnnpack": Counter()}
    for index, operator in enumerate(operators):
        counts["xnnpack" if index in inside else "portable"][operator.name] += 1
    return Delegation(
        delegate_calls=len(delegates),
        undelegated_convolutions=sum(counts["portable"][name] for name in CONVOLUTIONS),
        placement={place: dict(sorted(count.items())) for place, count in counts.items() if count},
    )


def delegate_calls(interpreter: Interpreter) -> int:
    """How often one inference hands over to XNNPACK."""
    return len(_delegates(interpreter))


def _delegates(interpreter: Interpreter) -> list[dict[str, Any]]:
    return [node for node in interpreter._get_ops_details() if node["op_name"] == _DELEGATE]


def _covered(delegate: Mapping[str, Any], operators: Sequence[Operator]) -> set[int]:
    """Indices of the operators a delegate node replaces.

    LiteRT does not list them. They are what lies between the node's inputs and its outputs.
    """
    producer = {tensor: index for index, op in enumerate(operators) for tensor in op.outputs}
    known = set(_indices(delegate["inputs"]))
    pending = list(_indices(delegate["outputs"]))
    covered: set[int] = set()
    while pending:
        tensor = pending.pop()
        if tensor in known or tensor not in producer:
            continue
        known.add(tensor)
        covered.add(producer[tensor])
        pending.extend(operators[producer[tensor]].inputs)
    return covered


def input_specs(interpreter: Interpreter, signature: str | None = None) -> tuple[TensorSpec, ...]:
    """The file's inputs, by their signature names, in the order of ``dfnet.signature.INPUTS``;
    ``signature`` is needed where there are several."""
    details = interpreter.get_signature_runner(signature).get_input_details()
    return tuple(_spec(spec.name, details[spec.name]) for spec in INPUTS)


def output_specs(interpreter: Interpreter, signature: str | None = None) -> tuple[TensorSpec, ...]:
    """The file's one output, by its signature name."""
    details = interpreter.get_signature_runner(signature).get_output_details()
    return (_spec(OUTPUT, details[OUTPUT]),)


def _spec(name: str, details: Mapping[str, Any]) -> TensorSpec:
    dtype = np.dtype(details["dtype"])
    scale, zero_point = details["quantization"]
    quantized = bool(np.issubdtype(dtype, np.integer))
    return TensorSpec(
        name=name,
        shape=tuple(int(size) for size in details["shape"]),
        dtype=dtype.name,
        # No recipe has uint8 tensors but those whose files take and give bytes.
        layout=BYTE_LAYOUT if dtype == np.uint8 else "NCHW",
        scale=float(scale) if quantized else None,
        zero_point=int(zero_point) if quantized else None,
    )
