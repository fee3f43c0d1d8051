"""Operations on shapes, and tensors made from a few numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import export.mil.ops  # noqa: F401 - fills the registry
from dfnet.errors import UnsupportedError

from mil_kernels import Array, counted, run


def test_identity_keeps_values() -> None:
    assert run("identity", x=[[1, 2]]).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ([4, 3], (4, 3)),
        ([0, -1], (2, 6)),
        # iOS17's own example: zeros count from the right, and stand for 1 beyond the rank.
        ([1, 0, -1, 0], (1, 1, 2, 6)),
        ([-1], (12,)),
    ],
)
def test_reshape(shape: list[int], expected: tuple[int, ...]) -> None:
    result = run("reshape", x=counted(2, 6), shape=shape)
    np.testing.assert_array_equal(result, counted(*expected))


def test_reshape_of_other_ranks_takes_zeros_from_the_right() -> None:
    assert run("reshape", x=counted(2, 3, 4), shape=[-1, 0]).shape == (6, 4)


def test_reshape_like_takes_parts_of_shapes() -> None:
    # The docstring's example.
    references = (counted(2, 3, 4), counted(1, 5, 6))
    result = run(
        "reshape_like",
        x=counted(180),
        ref_tensors=references,
        begins=(0, 1),
        ends=(2, 0),
        end_masks=(False, True),
    )
    assert result.shape == (2, 3, 5, 6)


def test_expand_dims_counts_in_the_result() -> None:
    assert run("expand_dims", x=counted(2, 3), axes=[-1, 0]).shape == (1, 2, 3, 1)
    assert run("expand_dims", x=counted(2, 3), axes=[3, 1]).shape == (2, 1, 3, 1)
    assert run("expand_dims", x=np.float32(1), axes=[0]).shape == (1,)
    with pytest.raises(UnsupportedError, match="3 dimensions"):
        run("expand_dims", x=counted(2, 3), axes=[3])


def test_squeeze_keeps_longer_axes() -> None:
    x = counted(1, 2, 1, 3)
    assert run("squeeze", x=x).shape == (2, 3)
    assert run("squeeze", x=x, axes=[-2]).shape == (1, 2, 3)
    assert run("squeeze", x=x, axes=[0, 1]).shape == (2, 1, 3)


@pytest.mark.parametrize(
    ("shape", "axis", "expected"),
    [
        ((3,), -1, (1, 3)),
        ((3,), 1, (3, 1)),
        ((4, 3), -1, (4, 3)),
        ((2, 3, 2), -1, (6, 2)),
        ((5, 5, 2), 1, (5, 10)),
    ],
)
def test_flatten2d(shape: tuple[int, ...], axis: int, expected: tuple[int, int]) -> None:
    assert run("flatten2d", x=counted(*shape), axis=axis).shape == expected


def test_shape_is_a_vector_of_int32() -> None:
    result = run("shape", x=counted(2, 3))
    assert result.dtype == np.int32
    assert result.tolist() == [2, 3]


@pytest.mark.parametrize("value", [np.float32(1.5), np.int32(-2), np.bool_(True)])
def test_fill_has_the_type_of_its_value(value: Any) -> None:
    for result in (
        run("fill", shape=[2, 1], value=value),
        run("fill_like", ref_tensor=counted(2, 1), value=value),
    ):
        assert result.dtype == value.dtype
        assert result.tolist() == [[value], [value]]


def test_fill_is_zero_by_default() -> None:
    assert run("fill", shape=[2]).tolist() == [0.0, 0.0]
    assert run("fill_like", ref_tensor=[1, 2]).dtype == np.float32


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [(0, 5, 2), (5, 0, -2), (3, 3, 1), (0, 6, 2), (0.0, 0.6, 0.2), (1.0, 0.0, -0.3), (0.5, 9, 1)],
)
def test_range_1d_is_numpys_range(start: float, end: float, step: float) -> None:
    dtype: Any = np.int32 if isinstance(start, int) else np.float32
    first, last, increment = dtype(start), dtype(end), dtype(step)
    wanted: Array = np.arange(first, last, increment, dtype=dtype)
    result = run("range_1d", start=first, end=last, step=increment)
    assert (result.dtype, result.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_allclose(result, wanted, atol=1e-7)


def test_one_hot_puts_the_vector_at_its_axis() -> None:
    indices = np.array([[0, 2], [1, 7]], np.int32)
    wanted = np.zeros((2, 2, 3), np.int32)
    wanted[0, 0, 0] = wanted[0, 1, 2] = wanted[1, 0, 1] = 1  # 7 is beyond the vector
    for axis, place in ((-1, 2), (2, 2), (-2, 1), (1, 1), (0, 0), (-3, 0)):
        result = run("one_hot", indices=indices, one_hot_vector_size=3, axis=axis)
        np.testing.assert_array_equal(result, np.moveaxis(wanted, -1, place))
    values = {"on_value": np.float32(5), "off_value": np.float32(-1)}
    assert run("one_hot", indices=[1], one_hot_vector_size=2, **values).tolist() == [[-1, 5]]
