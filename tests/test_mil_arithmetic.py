from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dfnet.errors import UnsupportedError
from export.mil.arithmetic import Arithmetic

from mil_kernels import reals, run


def integers(seed: int, *shape: int) -> npt.NDArray[np.float32]:
    """Small whole numbers: every sum of their products is exact."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


@pytest.mark.parametrize("sums", Arithmetic)
def test_products_of_matrices(sums: Arithmetic) -> None:
    def half(type_: str, **arguments: Any) -> npt.NDArray[Any]:
        return run(type_, declared="fp16", sums=sums, **arguments)

    x, weight, bias = integers(1, 2, 5, 40), integers(2, 3, 40), reals(1, 2, 3)
    linear = half("linear", x=x, weight=weight, bias=bias)
    np.testing.assert_array_equal(linear, np.tensordot(x, weight, ([2], [1])) + bias)
    y = integers(3, 4, 2, 40, 6)
    np.testing.assert_array_equal(half("matmul", x=x, y=y), x @ y)
    turned = half("matmul", x=x.swapaxes(1, 2), y=y.swapaxes(2, 3), transpose_x=True, transpose_y=1)
    np.testing.assert_array_equal(turned, x @ y)
    vector = integers(4, 40)
    np.testing.assert_array_equal(half("matmul", x=x, y=vector, transpose_y=True), x @ vector)
    np.testing.assert_array_equal(half("matmul", x=vector, y=y, transpose_x=True), vector @ y)


def test_products_of_integers_stay_integers() -> None:
    x = np.array([[1, 2], [3, 4]], np.int32)
    assert run("matmul", x=x, y=x).tolist() == [[7, 10], [15, 22]]
    bias = np.array([0, 1], np.int32)
    assert run("linear", x=x, weight=x, bias=bias).tolist() == [[5, 12], [11, 26]]


def test_partial_products_are_added_in_float16() -> None:
    x = np.ones((1, 48), np.float32)
    weight = np.full((1, 48), 1 / 16, np.float32)
    weight[:, :16] = 128.0  # 2048 from the first part; then, two parts of 1 are lost.
    given: dict[str, Any] = {"x": x, "weight": weight, "bias": reals(0.5), "declared": "fp16"}
    assert run("linear", **given).item() == 2050.5
    assert run("linear", sums=Arithmetic.FLOAT16_SUMS, **given).item() == 2048.5


@pytest.mark.parametrize("sums", Arithmetic)
def test_einsum_multiplies_across_the_dimension_between(sums: Arithmetic) -> None:
    x, y = integers(5, 2, 3, 4, 20), integers(6, 1, 20, 4, 5)
    expected = np.zeros((2, 3, 4, 5))
    for n, c, h, u in np.ndindex(*expected.shape):
        expected[n, c, h, u] = (x[n, c, h] * y[0, :, h, u]).sum()
    given: dict[str, Any] = {"declared": "fp16", "sums": sums}
    values = tuple(map(torch.from_numpy, (x, y)))
    got = run("einsum", values=values, equation="bxqk, bkqz -> bxqz", **given)
    np.testing.assert_array_equal(got, expected)
    flat = tuple(value[0] for value in values)
    got = run("einsum", values=flat, equation="chw,whr->chr", **given)
    np.testing.assert_array_equal(got, expected[0])
    with pytest.raises(UnsupportedError, match="got the equation 'ab,bc->ac' for 2 tensors"):
        run("einsum", values=flat, equation="ab,bc->ac")


@pytest.mark.parametrize("sums", Arithmetic)
def test_attention_and_its_masks(sums: Arithmetic) -> None:
    given: dict[str, Any] = {
        "query": np.full((1, 1, 4), 0.5, np.float32),
        "key": reals(0, 0, 0, 0, 1, 1, 1, 1).reshape(1, 2, 4) * np.log(np.float32(3)),
        "value": reals(0, 8).reshape(1, 2, 1),
        "declared": "fp16",
        "sums": sums,
    }
    # Scores 0 and 4 * 0.5 * log(3) / sqrt(4) = log(3): weights 1/4 and 3/4.
    near = 0.01 if sums is Arithmetic.FLOAT16_SUMS else 1e-6
    attend = "scaled_dot_product_attention"
    assert run(attend, **given).item() == pytest.approx(6.0, rel=near)
    hidden = run(attend, attn_mask=np.array([[True, False]]), **given)
    assert hidden.item() == 0.0
    added = run(attend, attn_mask=np.log(reals(3, 1).reshape(1, 2)), **given)
    assert added.item() == pytest.approx(4.0, rel=near)


X = reals(1, 2, 3, 4, 5, 9).reshape(2, 3)


@pytest.mark.parametrize(
    ("type_", "rows", "everything"),
    [
        ("reduce_sum", [6, 18], 24),
        ("reduce_mean", [2, 6], 4),
        ("reduce_max", [3, 9], 9),
        ("reduce_min", [1, 4], 1),
        ("reduce_prod", [6, 180], 1080),
        ("reduce_sum_square", [14, 122], 136),
        ("reduce_l1_norm", [6, 18], 24),
        ("reduce_l2_norm", [14**0.5, 122**0.5], 136**0.5),
        ("reduce_log_sum", [np.log(6), np.log(18)], np.log(24)),
        ("reduce_log_sum_exp", [3.4076060, 9.0247451], 9.0283733),
    ],
)
def test_reductions(type_: str, rows: list[float], everything: float) -> None:
    assert run(type_, x=X, axes=[-1]) == pytest.approx(rows)
    assert run(type_, x=X, axes=[1], keep_dims=True)[:, 0] == pytest.approx(rows)
    assert run(type_, x=X, axes=[0, -1]).item() == pytest.approx(everything)
    assert run(type_, x=X).item() == pytest.approx(everything)
    assert run(type_, x=X).shape == ()
    assert run(type_, x=X, keep_dims=True).shape == (1, 1)


def test_reductions_of_integers_are_integers() -> None:
    x = np.array([-1, -2, -4], np.int32)
    assert run("reduce_mean", x=x).item() == -2
    assert run("reduce_sum", x=x).dtype == np.int32
    assert run("reduce_l2_norm", x=x).item() == 4
    with pytest.raises(UnsupportedError, match="got no axes to reduce"):
        run("reduce_sum", x=x, axes=np.zeros(0, np.int32))


def test_indices_of_extremes() -> None:
    x = reals(1, 7, 3, 9, 0, 2).reshape(2, 3)
    assert run("reduce_argmax", declared="int32", x=x).tolist() == [1, 0]
    assert run("reduce_argmin", declared="int32", x=x, axis=0).tolist() == [0, 1, 1]
    kept = run("reduce_argmax", declared="uint16", x=x, keep_dims=True, output_dtype="uint16")
    assert kept.tolist() == [[1], [0]]
    with pytest.raises(UnsupportedError, match="got output_dtype 'int8', needed one of int32"):
        run("reduce_argmax", x=x, output_dtype="int8")


def test_cumulative_sums() -> None:
    x = np.array([[1, 2, 4], [8, 16, 32]], np.int32)
    assert run("cumsum", x=x).tolist() == [[1, 2, 4], [9, 18, 36]]
    assert run("cumsum", x=x, axis=1, exclusive=True).tolist() == [[0, 1, 3], [0, 8, 24]]
    assert run("cumsum", x=x, axis=-1, reverse=True).tolist() == [[7, 6, 4], [56, 48, 32]]
    both = run("cumsum", x=x, axis=1, exclusive=True, reverse=True)
    assert both.tolist() == [[6, 4, 0], [48, 32, 0]]
    assert both.dtype == np.int32
