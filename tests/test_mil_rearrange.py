"""Operations that move values, against loops over indices and values worked out by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import export.mil.ops  # noqa: F401 - fills the registry
from dfnet.errors import UnsupportedError

from mil_kernels import counted, run, run_all


@pytest.mark.parametrize("type_", ["depth_to_space", "pixel_shuffle"])
def test_depth_to_space_puts_the_place_first_and_pixel_shuffle_the_channel(type_: str) -> None:
    x = counted(2, 12, 2, 3)
    expected = np.empty((2, 3, 4, 6), np.float32)
    for n, c, y, z in np.ndindex(expected.shape):
        place = y % 2 * 2 + z % 2
        source = place * 3 + c if type_ == "depth_to_space" else c * 4 + place
        expected[n, c, y, z] = x[n, source, y // 2, z // 2]
    key = "block_size" if type_ == "depth_to_space" else "upscale_factor"
    np.testing.assert_array_equal(run(type_, x=x, **{key: 2}), expected)


@pytest.mark.parametrize("type_", ["space_to_depth", "pixel_unshuffle"])
def test_space_to_depth_puts_the_place_first_and_pixel_unshuffle_the_channel(type_: str) -> None:
    x = counted(2, 3, 4, 6)
    expected = np.empty((2, 12, 2, 3), np.float32)
    for n, c, y, z in np.ndindex(x.shape):
        place = y % 2 * 2 + z % 2
        target = place * 3 + c if type_ == "space_to_depth" else c * 4 + place
        expected[n, target, y // 2, z // 2] = x[n, c, y, z]
    key = "block_size" if type_ == "space_to_depth" else "downscale_factor"
    np.testing.assert_array_equal(run(type_, x=x, **{key: 2}), expected)


def test_space_to_batch_pads_and_puts_the_place_before_the_batch() -> None:
    # Apple's own example (TestSpaceToBatch).
    x = np.arange(1, 17, dtype=np.float32).reshape(2, 1, 2, 4)
    result = run("space_to_batch", x=x, block_shape=[2, 2], paddings=[[0, 0], [2, 0]])
    rows = [[0, 1, 3], [0, 9, 11], [0, 2, 4], [0, 10, 12]]
    rows += [[0, 5, 7], [0, 13, 15], [0, 6, 8], [0, 14, 16]]
    np.testing.assert_array_equal(result, np.reshape(rows, (8, 1, 1, 3)))
    back = run("batch_to_space", x=result, block_shape=[2, 2], crops=[[0, 0], [2, 0]])
    np.testing.assert_array_equal(back, x)


def test_space_to_batch_with_unequal_blocks_and_every_padding() -> None:
    x, (down, across), (top, left) = counted(2, 3, 3, 4), (2, 3), (1, 2)
    padded = np.pad(x, [(0, 0), (0, 0), (top, 0), (left, 3)])
    expected = np.empty((12, 3, 2, 3), np.float32)
    for i, j, n, c, y, z in product(
        range(down), range(across), range(2), range(3), range(2), range(3)
    ):
        expected[(i * across + j) * 2 + n, c, y, z] = padded[n, c, y * down + i, z * across + j]
    edges = [[top, 0], [left, 3]]
    result = run("space_to_batch", x=x, block_shape=[down, across], paddings=edges)
    np.testing.assert_array_equal(result, expected)
    back = run("batch_to_space", x=result, block_shape=[down, across], crops=edges)
    np.testing.assert_array_equal(back, x)


def test_transpose_moves_the_named_dimension_to_each_place() -> None:
    result = run("transpose", x=counted(2, 3, 4), perm=[-1, 0, 1])
    assert result.shape == (4, 2, 3)
    assert result[3, 1, 2] == counted(2, 3, 4)[1, 2, 3]


def test_concat_of_tensors_and_of_scalars() -> None:
    first, second = counted(2, 1), counted(2, 2) + 10
    joined = run("concat", values=(first, second), axis=-1)
    np.testing.assert_array_equal(joined, [[0, 10, 11], [1, 12, 13]])
    scalars = tuple(np.int32(n) for n in (4, -1, 7))
    assert run("concat", values=scalars, axis=0).tolist() == [4, -1, 7]


def test_concat_interleaves_along_any_axis() -> None:
    first, second = [[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 10], [11, 12]]
    by_row = [[1, 2], [7, 8], [3, 4], [9, 10], [5, 6], [11, 12]]
    by_column = [[1, 7, 2, 8], [3, 9, 4, 10], [5, 11, 6, 12]]
    for axis, expected in ((0, by_row), (1, by_column), (-1, by_column)):
        result = run("concat", values=(first, second), axis=axis, interleave=True)
        assert result.tolist() == expected
    images = (counted(1, 2, 1, 2), counted(1, 2, 1, 2) + 4, counted(1, 2, 1, 2) + 8)
    result = run("concat", values=images, axis=1, interleave=True)
    assert result[0, :, 0, 0].tolist() == [0, 4, 8, 2, 6, 10]


def test_stack_makes_a_new_axis() -> None:
    assert run("stack", values=([1, 2], [3, 4]), axis=-1).tolist() == [[1, 3], [2, 4]]


def test_split_by_sizes_in_order_and_in_equal_parts() -> None:
    parts = run_all("split", x=counted(1, 6), split_sizes=[1, 3, 2], axis=1)
    assert [p.tolist() for p in parts] == [[[0]], [[1, 2, 3]], [[4, 5]]]
    parts = run_all("split", x=counted(6), num_splits=3, axis=-1)
    assert [p.tolist() for p in parts] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(UnsupportedError, match="equal"):
        run_all("split", x=counted(5), num_splits=2, axis=0)
    with pytest.raises(UnsupportedError, match="needed 3"):
        run_all("split", x=counted(5), num_splits=3, split_sizes=[2, 3], axis=0)


def test_tile_repeats_each_dimension() -> None:
    result = run("tile", x=[[1, 2], [3, 4]], reps=[1, 2])
    assert result.tolist() == [[1, 2, 1, 2], [3, 4, 3, 4]]
    with pytest.raises(UnsupportedError, match="repetitions"):
        run_all("tile", x=[1, 2], reps=[1, 2])


def test_reverse_some_and_all_axes() -> None:
    assert run("reverse", x=[[1, 2], [3, 4]], axes=[-1]).tolist() == [[2, 1], [4, 3]]
    assert run("reverse", x=[[1, 2], [3, 4]]).tolist() == [[4, 3], [2, 1]]


def test_reverse_sequence_reverses_only_the_given_lengths() -> None:
    x = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [1, 2, 3, 4]], np.int32)
    expected = [[3, 2, 1, 4], [5, 6, 7, 8], [4, 3, 2, 1]]
    lengths = np.array([3, 0, 4], np.int8)
    result = run("reverse_sequence", x=x, lengths=lengths, seq_axis=1)
    assert result.tolist() == expected
    deep = np.stack([x.T, x.T * 10], -1)  # sequence, batch, channel
    result = run("reverse_sequence", x=deep, lengths=lengths, seq_axis=0, batch_axis=-2)
    assert result[..., 1].T.tolist() == (np.array(expected) * 10).tolist()
    with pytest.raises(UnsupportedError, match="different axes"):
        run_all("reverse_sequence", x=x, lengths=lengths)


def test_sliding_windows_inserts_the_window_after_its_axis() -> None:
    result = run("sliding_windows", x=counted(2, 6, 2), axis=-2, size=3, stride=2)
    assert result.shape == (2, 2, 3, 2)
    np.testing.assert_array_equal(result[1, 1], counted(2, 6, 2)[1, 2:5])


@pytest.mark.parametrize(("lower", "upper"), [(0, -1), (-1, 0), (1, 0), (0, 2), (-1, -1)])
def test_band_part_keeps_a_band(lower: int, upper: int) -> None:
    x = counted(2, 3, 4) + 1
    expected = x.copy()
    for m, n in product(range(3), range(4)):
        if (lower >= 0 and m - n > lower) or (upper >= 0 and n - m > upper):
            expected[:, m, n] = 0
    np.testing.assert_array_equal(run("band_part", x=x, lower=lower, upper=upper), expected)


def test_pad_pairs_belong_to_the_last_dimensions_in_order() -> None:
    result = run("pad", x=counted(2, 1, 1) + 1, pad=[0, 1, 2, 0], constant_val=7.0)
    assert result.tolist() == [[[7, 7, 1], [7, 7, 7]], [[7, 7, 2], [7, 7, 7]]]


def test_pad_reflects_without_the_edge_and_replicates_with_it() -> None:
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    reflected = run("pad", x=x, pad=[1, 0, 2, 1], mode="reflect")
    assert reflected.tolist() == [[6, 5, 4, 5, 6, 5], [3, 2, 1, 2, 3, 2], [6, 5, 4, 5, 6, 5]]
    replicated = run("pad", x=x, pad=[0, 1, 2, 1], mode="replicate")
    assert replicated.tolist() == [[1, 1, 1, 2, 3, 3], [4, 4, 4, 5, 6, 6], [4, 4, 4, 5, 6, 6]]


@pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.uint8])
def test_pad_keeps_integers_and_booleans(dtype: type) -> None:
    result = run("pad", x=np.zeros(1, dtype), pad=[1, 1], constant_val=dtype(1))
    assert result.dtype == dtype
    assert result.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("pad", "mode", "message"),
    [
        ([1, 1], "wrap", "padding mode 'wrap'"),
        ([3, 0], "reflect", "at most 2"),
        ([0, 4], "replicate", "at most 3"),
        ([-1, 0], "constant", "not negative"),
        ([1], "constant", "pairs"),
    ],
)
def test_pad_rejects_what_the_definition_does_not_allow(
    pad: list[int], mode: str, message: str
) -> None:
    with pytest.raises(UnsupportedError, match=message):
        run_all("pad", x=counted(3), pad=pad, mode=mode)


def test_an_unknown_parameter_is_an_error() -> None:
    with pytest.raises(UnsupportedError, match="unknown"):
        run_all("transpose", x=counted(2), perm=[0], order="C")
