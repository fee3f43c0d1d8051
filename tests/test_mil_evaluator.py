from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dfnet.errors import ArtifactError, UnsupportedError
from export.mil import Arithmetic, Evaluator, Package, evaluate
from export.mil.evaluator import supported_operations
from export.mil.protobuf import Model_pb2

from mil_packages import Array, Program, small_convolution, write_package

X = np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 2, 4, 4)
FLOAT = ("float32", (4,))
HALF = ("float16", (4,))


def run(program: Program, folder: Path, x: object, **options: Arithmetic) -> Array:
    output = evaluate(write_package(folder, program), {"x": np.asarray(x)}, **options)["y"]
    return np.asarray(output)


def convolution_by_hand(x: Array) -> torch.Tensor:
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(3)
    picture, kernel, offset = (torch.from_numpy(a.astype(np.float32)) for a in (x, weight, bias))
    return F.relu(F.conv2d(picture, kernel, offset, padding=1))


def test_a_float32_program_is_what_torch_computes(tmp_path: Path) -> None:
    got = run(small_convolution(), tmp_path, X)
    assert np.array_equal(got, convolution_by_hand(X).numpy())


def unary(type_: str, dtype: str, count: int = 4) -> Program:
    program = Program({"x": (dtype, (count,))}, {"y": (dtype, (count,))})
    program.add(type_, "y", (dtype, (count,)), {"x": "x"})
    return program


def squared_then_rooted() -> Program:
    program = Program({"x": HALF}, {"y": HALF})
    program.add("square", "s", HALF, {"x": "x"})
    program.add("sqrt", "y", HALF, {"x": "s"})
    return program


def test_every_result_is_rounded_to_the_declared_float16(tmp_path: Path) -> None:
    third = np.float16(1 / 3)
    got = run(squared_then_rooted(), tmp_path, np.full(4, third))
    assert (got == np.sqrt((third * third).astype(np.float16)).astype(np.float16)).all()
    assert got.dtype == np.float16


def test_float32_arithmetic_keeps_what_float16_would_round(tmp_path: Path) -> None:
    x = np.full(4, np.float16(3e-5))
    declared = run(squared_then_rooted(), tmp_path / "a", x)
    exact = run(squared_then_rooted(), tmp_path / "b", x, arithmetic=Arithmetic.FLOAT32)
    assert not np.allclose(declared, x, rtol=1e-3)  # 9e-10 is below what float16 resolves
    assert np.allclose(exact, x, rtol=1e-3)


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
def test_overflows_are_recorded_by_name(tmp_path: Path, arithmetic: Arithmetic) -> None:
    package = Package(write_package(tmp_path, squared_then_rooted()))
    evaluator = Evaluator(package, arithmetic=arithmetic)
    evaluator.predict({"x": np.full(4, np.float16(1))})
    assert evaluator.overflows == {}
    evaluator.predict({"x": np.full(4, np.float16(300))})
    expected = {} if arithmetic is Arithmetic.FLOAT32 else {"s": 90000.0, "y": float("inf")}
    assert evaluator.overflows == expected


def summing() -> Program:
    """A 1x1 convolution over 64 channels whose exact sum float16 cannot follow."""
    program = Program({"x": ("float16", (1, 64, 1, 1))}, {"y": ("float16", (1, 1, 1, 1))})
    program.const("w", np.ones((1, 64, 1, 1), np.float16), blob=True)
    program.const("p", "valid")
    arguments = {"x": "x", "weight": "w", "pad_type": "p"}
    program.add("conv", "y", ("float16", (1, 1, 1, 1)), arguments)
    return program


def test_float16_sums_round_between_partial_sums(tmp_path: Path) -> None:
    x = np.full((1, 64, 1, 1), np.float16(0.4), np.float16)
    x[0, 0] = 2048  # float16 steps by 2 from here
    declared = run(summing(), tmp_path / "a", x)
    summed = run(summing(), tmp_path / "b", x, arithmetic=Arithmetic.FLOAT16_SUMS)
    exact = float(x.astype(np.float64).sum())
    assert declared.item() == np.float16(exact)
    assert abs(summed.item() - exact) > abs(declared.item() - exact)


def test_texts_and_integers_pass_through(tmp_path: Path) -> None:
    program = Program({"x": ("float32", (2,))}, {"y": ("int32", (2,))})
    program.const("to", "int32")
    program.add("cast", "y", ("int32", (2,)), {"x": "x", "dtype": "to"})
    got = run(program, tmp_path, np.array([1.9, -1.9], np.float32))
    assert got.tolist() == [1, -1]
    assert got.dtype == np.int32


def test_an_int8_result_travels_as_int8(tmp_path: Path) -> None:
    program = Program({"x": FLOAT}, {"y": FLOAT})
    program.const("scale", np.float32(0.5))
    program.const("type", "int8")
    arguments = {"input": "x", "scale": "scale"}
    program.add("quantize", "q", ("int8", (4,)), {**arguments, "output_dtype": "type"})
    program.add("dequantize", "y", FLOAT, {"input": "q", "scale": "scale"})
    got = run(program, tmp_path, np.array([0.6, -0.6, 100, -100], np.float32))
    assert got.tolist() == [0.5, -0.5, 63.5, -64.0]


def test_intermediate_results_can_be_asked_for(tmp_path: Path) -> None:
    evaluator = Evaluator(Package(write_package(tmp_path, small_convolution())))
    results = evaluator.intermediates({"x": X}, ["c"])
    assert torch.equal(F.relu(results["c"]), convolution_by_hand(X))
    with pytest.raises(UnsupportedError, match="got the names nothing"):
        evaluator.intermediates({"x": X}, ["nothing"])


def test_inputs_are_not_changed(tmp_path: Path) -> None:
    x = X.copy()
    run(small_convolution(), tmp_path, x)
    assert np.array_equal(x, X)


def test_float64_inputs_take_the_declared_type(tmp_path: Path) -> None:
    got = run(unary("square", "float32"), tmp_path, np.full(4, 1 / 3))
    assert (got == np.square(np.float32(1 / 3))).all()


def pictured(tmp_path: Path, space: int, *, output: bool) -> Evaluator:
    """An identity program with a picture on one side."""
    program = Program({"x": ("float32", (1, 3, 2, 2))}, {"y": ("float32", (1, 3, 2, 2))})
    program.add("identity", "y", ("float32", (1, 3, 2, 2)), {"x": "x"})
    model = Model_pb2.Model()
    model.CopyFrom(program.model())
    feature = model.description.output[0] if output else model.description.input[0]
    feature.type.ClearField("multiArrayType")
    picture = feature.type.imageType
    picture.width = picture.height = 2
    picture.colorSpace = space
    return Evaluator(Package(write_package(tmp_path, program, model=model)))


RGB, BGR = 20, 30
COLORS = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)


@pytest.mark.parametrize(("space", "order"), [(RGB, [0, 1, 2]), (BGR, [2, 1, 0])])
def test_a_picture_becomes_planes_in_the_declared_order(
    tmp_path: Path, space: int, order: list[int]
) -> None:
    evaluator = pictured(tmp_path, space, output=False)
    for picture in (COLORS, Image.fromarray(COLORS)):
        got = np.asarray(evaluator.predict({"x": picture})["y"])
        assert np.array_equal(got[0], COLORS.transpose(2, 0, 1)[order])


@pytest.mark.parametrize("picture", [COLORS[:1], COLORS[..., :1], COLORS.astype(np.float32)])
def test_a_picture_that_does_not_fit_is_refused(
    tmp_path: Path,
    picture: Array,
) -> None:
    with pytest.raises(UnsupportedError, match="Core ML input x: got"):
        pictured(tmp_path, RGB, output=False).predict({"x": picture})


@pytest.mark.parametrize(("space", "order"), [(RGB, [0, 1, 2]), (BGR, [2, 1, 0])])
def test_planes_become_a_picture_rounded_and_clipped(
    tmp_path: Path, space: int, order: list[int]
) -> None:
    planes = np.array([-3, 0.4, 0.5, 254.6, 255.4, 900, 1, 2, 3, 4, 5, 6], np.float32)
    planes = planes.reshape(1, 3, 2, 2)
    got = pictured(tmp_path, space, output=True).predict({"x": planes})["y"]
    assert isinstance(got, Image.Image)
    expected = np.array([0, 0, 1, 255, 255, 255, 1, 2, 3, 4, 5, 6], np.uint8)
    assert np.array_equal(np.asarray(got), expected.reshape(3, 2, 2)[order].transpose(1, 2, 0))


def test_a_result_of_another_count_is_refused(tmp_path: Path) -> None:
    program = Program({"x": FLOAT}, {"y": FLOAT})
    program.const("axis", np.int32(0))
    program.const("n", np.int32(2))
    half = ("float32", (2,))
    program.add("split", "y", half, {"x": "x", "axis": "axis", "num_splits": "n"})
    with pytest.raises(ArtifactError, match="got 2 results, the file declares 1"):
        run(program, tmp_path, np.zeros(4, np.float32))


def test_the_evaluator_knows_at_least_140_operations() -> None:
    assert len(supported_operations()) >= 140
