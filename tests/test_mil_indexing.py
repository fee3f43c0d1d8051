"""Slices, gathers, scatters, sorting and shapes, against numpy's indexing and loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import export.mil.ops  # noqa: F401 - fills the registry
from dfnet.errors import UnsupportedError
from export.mil.arithmetic import Arithmetic
from export.mil.registry import OPERATIONS, Call

from mil_kernels import counted, run, run_all

SLICES = [
    ({"begin": [1, 0], "end": [3, 5]}, np.s_[1:3, 0:5]),
    ({"begin": [-2, 1], "end": [9, -1], "stride": [1, 2]}, np.s_[-2:9, 1:-1:2]),
    ({"begin": [3, 4], "end": [0, 0], "stride": [-1, -3]}, np.s_[3:0:-1, 4:0:-3]),
    ({"begin": [2, 2], "end": [3, 3], "begin_mask": [True, False]}, np.s_[:3, 2:3]),
    ({"begin": [2, 2], "end": [3, 3], "end_mask": [False, True]}, np.s_[2:3, 2:]),
    (
        # A mask means the far end in the direction of the stride.
        {"begin": [0, 0], "end": [2, 0], "stride": [-1, -2]}
        | {"begin_mask": [True, True], "end_mask": [False, True]},
        np.s_[:2:-1, ::-2],
    ),
    ({"begin": [-1, 1], "end": [0, 4], "squeeze_mask": [True, False]}, np.s_[-1, 1:4]),
    ({"begin": [1, 2], "end": [0, 0], "squeeze_mask": [True, True]}, np.s_[1, 2]),
    (
        {"begin": [3, 0], "end": [0, 2], "begin_mask": [True, False]}
        | {"squeeze_mask": [True, False]},
        np.s_[0, 0:2],
    ),
    ({"begin": [2, 0], "end": [2, 5]}, np.s_[2:2, :]),
]


@pytest.mark.parametrize(("parameters", "index"), SLICES)
def test_slice_by_index(parameters: dict[str, Any], index: Any) -> None:
    result = run("slice_by_index", x=counted(4, 5), **parameters)
    assert result.shape == np.shape(counted(4, 5)[index])
    np.testing.assert_array_equal(result, counted(4, 5)[index])


@pytest.mark.parametrize(("parameters", "index"), SLICES)
def test_slice_update(parameters: dict[str, Any], index: Any) -> None:
    x = counted(4, 5)
    update = -1 - counted(*np.shape(x[index]))
    result = run("slice_update", x=x, update=update, **parameters)
    wanted = x.copy()
    wanted[index] = update
    np.testing.assert_array_equal(result, wanted)
    np.testing.assert_array_equal(x, counted(4, 5))


def test_slices_are_views() -> None:
    x = torch.zeros(4, 4)
    bound = {"x": [x], "begin": [torch.tensor([1, 0])], "end": [torch.tensor([3, 4])]}
    (result,) = OPERATIONS["slice_by_index"](Call(Arithmetic.DECLARED, ()), bound)
    assert result.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def test_slice_by_index_needs_a_value_of_every_dimension() -> None:
    with pytest.raises(UnsupportedError, match="2 values each"):
        run_all("slice_by_index", x=counted(4, 5), begin=[1], end=[2])
    with pytest.raises(UnsupportedError, match="stride of 0"):
        run_all("slice_by_index", x=counted(4), begin=[1], end=[2], stride=[0])


def test_slice_by_size_and_crop() -> None:
    x = counted(4, 5)
    result = run("slice_by_size", x=x, begin=[-3, 1], size=[2, -1])
    np.testing.assert_array_equal(result, x[1:3, 1:])
    cropped = run("crop", x=counted(1, 4, 5), crop_height=[1, 0], crop_width=[0, 3])
    np.testing.assert_array_equal(cropped, counted(1, 4, 5)[:, 1:, :2])


def test_gather_replaces_the_axis_by_the_shape_of_the_indices() -> None:
    x, indices = counted(2, 3, 4), np.array([[0, -1], [2, -3]], np.int32)
    for axis in (1, -2):
        result = run("gather", x=x, indices=indices, axis=axis)
        np.testing.assert_array_equal(result, np.take(x, indices, 1))
    assert run("gather", x=x, indices=np.int32(1)).shape == (3, 4)


def test_gather_with_batch_dimensions() -> None:
    x, indices = counted(2, 3, 4, 5), np.array([[[0, 3]], [[-1, 1]]], np.int32)
    result = run("gather", x=x, indices=indices, axis=-2, batch_dims=1)
    wanted = np.stack([np.take(x[n], indices[n], 1) for n in range(2)])
    assert result.shape == (2, 3, 1, 2, 5)
    np.testing.assert_array_equal(result, wanted)
    with pytest.raises(UnsupportedError, match="batch"):
        run_all("gather", x=x, indices=indices[:1], axis=2, batch_dims=1)


def test_gather_along_axis() -> None:
    x, indices = counted(2, 3), np.array([[0, -1], [2, 2]], np.int16)
    assert run("gather_along_axis", x=x, indices=indices, axis=1).tolist() == [[0, 2], [5, 5]]


def test_gather_nd_with_and_without_batch_dimensions() -> None:
    x = counted(2, 3, 4)
    assert run("gather_nd", x=x, indices=[[1, -1], [0, 0]]).tolist() == [
        [20, 21, 22, 23],
        [0, 1, 2, 3],
    ]
    assert run("gather_nd", x=x, indices=[[1, 2, 3]]).tolist() == [23]
    batched = run("gather_nd", x=x, indices=[[[1], [0]], [[2], [-1]]], batch_dims=1)
    np.testing.assert_array_equal(batched, np.stack([x[0, [1, 0]], x[1, [2, 2]]]))
    deep = run("gather_nd", x=x, indices=counted(2, 3, 1).astype(int) % 4, batch_dims=2)
    assert deep.tolist() == [[0, 5, 10], [15, 16, 21]]


@pytest.mark.parametrize("validate", [True, False])
def test_negative_indices_are_out_of_bounds_since_ios17(validate: bool) -> None:
    data, updates = counted(3), counted(1)
    with pytest.raises(UnsupportedError, match="from -1"):
        run_all("gather", x=data, indices=[-1], validate_indices=validate)
    with pytest.raises(UnsupportedError, match="from -1"):
        run_all("scatter", data=data, indices=[-1], updates=updates, validate_indices=validate)
    with pytest.raises(UnsupportedError, match="to 3"):
        run_all("gather_along_axis", x=data, indices=[3])
    with pytest.raises(UnsupportedError, match="to 3"):
        run_all("scatter_nd", data=data, indices=[[3]], updates=updates)


SCATTERED: dict[str, list[float]] = {
    "update": [2, 9, 5, 7],
    "add": [2, 3 + 4 + 9, 5, 7 + 2],
    "sub": [2, 3 - 4 - 9, 5, 7 - 2],
    "mul": [2, 3 * 4 * 9, 5, 7 * 2],
    "div": [2, 3 / 4 / 9, 5, 7 / 2],
    "max": [2, 9, 5, 7],
    "min": [2, 3, 5, 2],
}


@pytest.mark.parametrize("mode", SCATTERED)
def test_scatter_modes_with_repeated_indices(mode: str) -> None:
    wanted = list(SCATTERED[mode])
    if mode == "update":
        wanted[3] = 2
    data, updates = np.array([2, 3, 5, 7], np.float32), np.array([4, 9, 2], np.float32)
    common = {"indices": [1, 1, -1], "mode": mode}
    flat = run("scatter", data=data, updates=updates, **common)
    np.testing.assert_allclose(flat, wanted, rtol=1e-6)
    rows = np.stack([data, data * 0 + 1], 1)
    slices = np.stack([updates, updates * 0 + 1], 1)
    result = run("scatter", data=rows, updates=slices, **common)
    np.testing.assert_allclose(result[:, 0], wanted, rtol=1e-6)
    along = run("scatter_along_axis", data=data, updates=updates, **common)
    np.testing.assert_allclose(along, wanted, rtol=1e-6)
    points = [[1], [1], [-1]]
    result = run("scatter_nd", data=data, updates=updates, indices=points, mode=mode)
    np.testing.assert_allclose(result, wanted, rtol=1e-6)


def test_scatter_along_other_axes_and_with_defaults() -> None:
    data, updates = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[5, 6, 7], [8, 9, 10]])
    # The docstring's example; the mode is "add" without one.
    assert run("scatter", data=data, indices=[1, 0], updates=updates).tolist() == [
        [9, 11, 13],
        [9, 11, 13],
    ]
    columns = {"data": data, "updates": updates[:, :2], "axis": -1, "mode": "update"}
    assert run("scatter", indices=[2, 0], **columns).tolist() == [[6, 2, 5], [9, 5, 8]]
    each = run("scatter_along_axis", indices=[[2, 0], [1, 1]], **columns)
    assert each.tolist() == [[6, 2, 5], [4, 9, 6]]
    row = run("scatter_nd", data=data, indices=[[1]], updates=[[1, 1, 1]])
    assert row.tolist() == [[1, 2, 3], [5, 6, 7]]


def test_scatter_rejects_what_it_does_not_know() -> None:
    one: dict[str, Any] = {"data": counted(2), "indices": [0], "updates": counted(1)}
    with pytest.raises(UnsupportedError, match="scatter mode"):
        run_all("scatter", **one, mode="replace")
    with pytest.raises(UnsupportedError, match="shape"):
        run_all("scatter", **{**one, "updates": counted(2)})
    with pytest.raises(UnsupportedError, match="integers"):
        run_all("scatter", data=[1], indices=[0], updates=[2], mode="div")


def test_topk_orders_and_counts() -> None:
    x = np.array([[3, 1, 2, 3], [0, 5, 4, 1]], np.float32)
    values, indices = run_all("topk", x=x, k=2)
    assert (values.tolist(), indices.tolist()) == ([[3, 3], [5, 4]], [[0, 3], [1, 2]])
    values, indices = run_all("topk", x=x, k=2, ascending=True)
    assert (values.tolist(), indices.tolist()) == ([[1, 2], [0, 1]], [[1, 2], [0, 3]])
    everything = run("topk", x=x, k=-1, axis=0, return_indices=False)
    assert everything.tolist() == [[3, 5, 4, 3], [0, 1, 2, 1]]
    with pytest.raises(UnsupportedError, match="type of indices"):
        run_all("topk", x=x, output_indices_dtype="int8")
    with pytest.raises(UnsupportedError, match="k = 5"):
        run_all("topk", x=x, k=5)


def test_argsort_is_stable_and_falls_by_default() -> None:
    x = np.array([[2, 1], [2, 3], [1, 1]], np.int32)
    assert run("argsort", x=x, axis=0).T.tolist() == [[0, 1, 2], [1, 0, 2]]
    assert run("argsort", x=x, axis=0, ascending=True).T.tolist() == [[2, 0, 1], [0, 2, 1]]


def test_non_zero_lists_points_in_order() -> None:
    assert run("non_zero", x=[[0.0, 2.0], [-1.0, 0.0]]).tolist() == [[0, 1], [1, 0]]
