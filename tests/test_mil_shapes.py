"""Flexible shapes, optional inputs, state, and operations with blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfnet.errors import UnsupportedError
from export.mil import Evaluator, Package
from export.mil.protobuf import FeatureTypes_pb2, MIL_pb2, Model_pb2
from export.mil.shapes import check_array_shape, check_picture_size

from mil_packages import Program, write_package

Array = FeatureTypes_pb2.ArrayFeatureType
Picture = FeatureTypes_pb2.ImageFeatureType


def enumerated(*shapes: tuple[int, ...]) -> Any:
    array = Array()
    for shape in shapes:
        array.enumeratedShapes.shapes.add().shape.extend(shape)
    return array


def ranged(*bounds: tuple[int, int]) -> Any:
    array = Array()
    for lower, upper in bounds:
        array.shapeRange.sizeRanges.add(lowerBound=lower, upperBound=upper)
    return array


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (Array(shape=[1, 3]), (1, 3)),
        (enumerated((1, 3), (1, 5)), (1, 5)),
        (ranged((1, 1), (2, 8)), (1, 2)),
        (ranged((1, 1), (2, 8)), (1, 8)),
        (ranged((1, 1), (2, -1)), (1, 10_000)),
    ],
)
def test_a_shape_the_package_declares_is_taken(array: Any, shape: tuple[int, ...]) -> None:
    check_array_shape("x", array, shape)
    with pytest.raises(UnsupportedError):
        check_array_shape("x", array, (*shape, 1))


@pytest.mark.parametrize(
    ("array", "shape", "message"),
    [
        (Array(shape=[1, 3]), (3,), r"got shape \(3,\), needed \(1, 3\)"),
        (enumerated((1, 3), (1, 5)), (1, 4), r"needed \(1, 3\) or \(1, 5\)"),
        (ranged((1, 1), (2, 8)), (1, 9), "needed 1 to 1 x 2 to 8"),
        (ranged((1, 1), (2, 8)), (1, 1), "needed 1 to 1 x 2 to 8"),
        (ranged((1, 1), (2, -1)), (1, 1), "2 to any"),
        (ranged((1, 1), (2, 8)), (1, 2, 3), "needed 1 to 1 x 2 to 8"),
    ],
)
def test_another_shape_is_refused(array: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        check_array_shape("x", array, shape)


def test_pictures_have_sizes_of_their_own() -> None:
    several = Picture()
    several.enumeratedSizes.sizes.add(height=2, width=3)
    several.enumeratedSizes.sizes.add(height=4, width=6)
    open_ended = Picture()
    open_ended.imageSizeRange.heightRange.lowerBound = 2
    open_ended.imageSizeRange.heightRange.upperBound = 4
    open_ended.imageSizeRange.widthRange.lowerBound = 2
    open_ended.imageSizeRange.widthRange.upperBound = -1
    check_picture_size("x", several, (4, 6))
    check_picture_size("x", open_ended, (3, 500))
    for picture, size in ((several, (6, 4)), (open_ended, (5, 500)), (Picture(height=1), (1, 1))):
        with pytest.raises(UnsupportedError, match="Core ML input x"):
            check_picture_size("x", picture, size)


def sum_of_two() -> Program:
    pair = ("float32", (2,))
    program = Program({"x": pair, "b": pair}, {"y": pair})
    program.add("add", "y", pair, {"x": "x", "y": "b"})
    return program


def test_an_optional_input_takes_its_default(tmp_path: Path) -> None:
    program = sum_of_two()
    model = Model_pb2.Model()
    model.CopyFrom(program.model())
    optional = model.description.input[1]
    optional.type.isOptional = True
    optional.type.multiArrayType.floatDefaultValue = 0.5
    evaluator = Evaluator(Package(write_package(tmp_path, program, model=model)))
    x = np.ones(2, np.float32)
    assert np.asarray(evaluator.predict({"x": x})["y"]).tolist() == [1.5, 1.5]
    assert np.asarray(evaluator.predict({"x": x, "b": x})["y"]).tolist() == [2, 2]


def counting() -> tuple[Program, Any]:
    """y = x + state, and y becomes the state."""
    pair = ("float32", (2,))
    program = Program({"x": pair, "total": pair}, {"y": pair})
    program.add("read_state", "before", pair, {"input": "total"})
    program.add("add", "y", pair, {"x": "x", "y": "before"})
    program.add("write_state", "unused", pair, {"input": "total", "data": "y"})
    del program.operations[-1].outputs[:]
    model = Model_pb2.Model()
    model.CopyFrom(program.model())
    state = model.mlProgram.functions["main"].inputs[1].type
    tensor = MIL_pb2.ValueType()
    tensor.CopyFrom(state)
    state.stateType.wrappedType.CopyFrom(tensor)
    del model.description.input[1]
    return program, model


def test_a_state_is_kept_between_calls_until_it_is_reset(tmp_path: Path) -> None:
    program, model = counting()
    evaluator = Evaluator(Package(write_package(tmp_path, program, model=model)))
    x = np.array([1, 2], np.float32)
    results = [np.asarray(evaluator.predict({"x": x})["y"]).tolist() for _ in range(3)]
    assert results == [[1, 2], [2, 4], [3, 6]]
    evaluator.reset()
    assert np.asarray(evaluator.predict({"x": x})["y"]).tolist() == [1, 2]


@pytest.mark.parametrize(("x", "expected"), [([-1.0], [1.0]), ([4.0], [2.0])])
def test_a_condition_runs_one_of_its_blocks(
    tmp_path: Path, x: list[float], expected: list[float]
) -> None:
    one, truth = ("float32", (1,)), ("bool", (1,))
    program = Program({"x": one}, {"y": one})
    program.const("zero", np.zeros(1, np.float32))
    program.add("greater", "positive", truth, {"x": "x", "y": "zero"})
    program.add("cond", "y", one, {"pred": "positive"})
    for inner in ("sqrt", "abs"):
        block = program.operations[-1].blocks.add()
        branch = Program({}, {})
        branch.add(inner, f"of_{inner}", one, {"x": "x"})
        block.operations.extend(branch.operations)
        block.outputs.append(f"of_{inner}")
    evaluator = Evaluator(Package(write_package(tmp_path, program)))
    got = evaluator.predict({"x": np.array(x, np.float32)})["y"]
    assert np.asarray(got).tolist() == expected
