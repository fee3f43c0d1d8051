"""The scales of Core ML programs: zero points left out, and scales that coremltools divides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from export.mil.dtypes import dtype_named
from export.mil.program import Block, Constant, Function, Operation, TensorType
from export.mil_scales import read_scales

FP16, INT8, UINT8 = (dtype_named(name) for name in ("fp16", "int8", "uint8"))
X, Y, SUM = 0.02, 0.005, 0.03
"""Scales of two int8 operands and of their sum."""


def half(value: float) -> Constant:
    return Constant(FP16, np.asarray(value, np.float16))


def codes(value: npt.ArrayLike) -> Constant:
    return Constant(INT8, np.asarray(value, np.int8))


def quantize(name: str, source: str, scale: float, zero_point: int | None = None) -> Operation:
    """To int8 with a zero point; without one to uint8, as coremltools writes -128."""
    inputs: dict[str, tuple[str | Constant, ...]] = {"input": (source,), "scale": (half(scale),)}
    if zero_point is None:
        return Operation("quantize", inputs, ((name, TensorType(UINT8, None)),))
    inputs["zero_point"] = (codes(zero_point),)
    return Operation("quantize", inputs, ((name, TensorType(INT8, None)),))


def dequantize(name: str, source: Operation, scale: float) -> Operation:
    inputs = {**source.inputs, "input": (source.name,), "scale": (half(scale),)}
    return Operation("dequantize", inputs, ((name, TensorType(FP16, None)),))


def function(*operations: Operation) -> Function:
    return Function("main", "CoreML7", {}, Block((), operations, (operations[-1].name,)))


def divided_sum(x_scale: float, *, kind: str = "add") -> Function:
    """``x + y`` with operands and result divided by the scale of ``y``, and its codes used on."""
    x, y = quantize("qx", "x", X, -27), quantize("qy", "y", Y)
    total = Operation(kind, {"x": ("dx",), "y": ("dy",)}, (("sum", TensorType(FP16, None)),))
    relu = Operation("relu", {"x": ("sum",)}, (("relu", TensorType(FP16, None)),))
    result = quantize("qz", "relu", SUM / Y)
    return function(
        x, y, dequantize("dx", x, x_scale), dequantize("dy", y, 1.0), total, relu, result,
        dequantize("dz", result, SUM),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["add", "sub"])
def test_divided_scales_are_multiplied_back_and_counted(kind: str) -> None:
    found = read_scales(divided_sum(X / Y, kind=kind))
    assert [one.name for one in found.tensors] == ["qx", "qy", "qz"]
    assert [one.scale[0] for one in found.tensors] == pytest.approx([X, Y, SUM], rel=2**-11)
    assert [one.zero_point for one in found.tensors] == [-27, -128, -128]
    sums, stored = found.remarks
    assert sums.startswith("1 int8 sums: coremltools divided the scales")
    assert "float16" in stored
    assert found.requantized == ()


def test_an_operand_divided_by_something_else_shows_in_the_result() -> None:
    found = read_scales(divided_sum(X / Y * 1.01))
    # Not the scale of the sum, nor any other tensor's.
    assert found.tensors[2].scale[0] == pytest.approx(SUM / Y, rel=2**-11)
    assert len(found.remarks) == 1


def test_undivided_scales_are_as_stated() -> None:
    x, y = quantize("qx", "x", X, 5), quantize("qy", "x", Y)
    found = read_scales(function(x, dequantize("dx", x, X), y, dequantize("dy", y, Y)))
    assert [one.scale[0] for one in found.tensors] == pytest.approx([X, Y], rel=2**-11)
    assert len(found.remarks) == 1


def test_a_change_of_scale_alone_is_a_requantization() -> None:
    first = quantize("first", "x", X)
    second = quantize("second", "back", Y)
    found = read_scales(function(first, dequantize("back", first, X), second))
    ((before, after),) = found.requantized
    assert (before.scale[0], after.scale[0]) == pytest.approx((X, Y), rel=2**-11)
    assert (before.zero_point, after.zero_point) == (-128, -128)


def test_a_convolution_s_codes_scales_and_fused_relu() -> None:
    weights = np.arange(18, dtype=np.int8).reshape(2, 1, 3, 3)
    weight = Operation(
        "constexpr_affine_dequantize",
        {},
        (("w", TensorType(FP16, None)),),
        attributes={
            "quantized_data": codes(weights),
            "scale": Constant(FP16, np.asarray([0.5, 0.25], np.float16)),
            "zero_point": codes([0, 0]),
            "axis": Constant(dtype_named("int32"), np.asarray(0, np.int32)),
        },
    )
    source = quantize("q", "x", X)
    conv = Operation("conv", {"x": ("d",), "weight": ("w",)}, (("c", TensorType(FP16, None)),))
    relu = Operation("relu", {"x": ("c",)}, (("r", TensorType(FP16, None)),))
    operations = (weight, source, dequantize("d", source, X), conv, relu, quantize("z", "r", SUM))
    (found,) = read_scales(function(*operations)).convolutions
    assert found.codes == weights.tobytes()
    assert found.weight.scale == (0.5, 0.25)
    assert found.input.scale[0] == pytest.approx(X, rel=2**-11)
    assert found.output is not None
    assert found.output.scale[0] == pytest.approx(SUM, rel=2**-11)
    # A convolution of a float tensor is none of int8.
    apart = replace(conv, inputs={**conv.inputs, "x": ("x",)})
    assert read_scales(function(weight, source, apart)).convolutions == ()
