from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dfnet.errors import UnsupportedError

from mil_kernels import reals, run


def whole(*values: int) -> npt.NDArray[Any]:
    return np.array(values, np.int32)


def test_an_integer_quotient_is_cut_off_towards_zero() -> None:
    quotient = run("real_div", declared="int32", x=whole(7, -7), y=whole(2, 2))
    assert quotient.tolist() == [3, -3]
    assert quotient.dtype == np.int32
    assert run("floor_div", x=whole(7, -7), y=whole(2, 2)).tolist() == [3, -4]
    assert run("floor_div", x=reals(-7.0), y=reals(2.0)).tolist() == [-4.0]
    assert run("real_div", x=reals(-7.0), y=reals(2.0)).tolist() == [-3.5]


def test_a_remainder_has_the_sign_of_the_divisor() -> None:
    assert run("mod", x=whole(7, -7, 7, -7), y=whole(3, 3, -3, -3)).tolist() == [1, 2, -2, -1]
    assert run("mod", x=reals(-5.5), y=reals(2.0)).tolist() == [0.5]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("int8", [1, -1, 127, -128, 0, 2]),
        ("uint8", [1, 0, 255, 0, 0, 2]),
        ("uint16", [1, 0, 65535, 0, 0, 2]),
        ("int32", [1, -1, 2**31 - 1, -(2**31), 0, 2]),
    ],
)
def test_reals_are_cast_towards_zero_and_saturate(dtype: str, expected: list[int]) -> None:
    x = reals(1.9, -1.9, 1e12, -np.inf, np.nan, 2.5)
    assert run("cast", declared=dtype, x=x, dtype=dtype).tolist() == expected


def test_integers_are_cast_modulo() -> None:
    x = whole(-1, 300, 128, -129)
    assert run("cast", declared="uint8", x=x, dtype="uint8").tolist() == [255, 44, 128, 127]
    assert run("cast", declared="int8", x=x, dtype="int8").tolist() == [-1, 44, -128, 127]
    assert run("cast", declared="uint16", x=x, dtype="uint16").tolist() == [65535, 300, 128, 65407]


def test_casts_between_numbers_and_truth() -> None:
    assert run("cast", declared="bool", x=reals(0.0, 0.5, -1.0), dtype="bool").tolist() == [
        False,
        True,
        True,
    ]
    assert run("cast", x=np.array([True, False]), dtype="fp16").tolist() == [1.0, 0.0]
    assert run("cast", declared="int32", x=np.array([True]), dtype="int32").tolist() == [1]
    with pytest.raises(UnsupportedError, match=r"got dtype 'int4', needed one of int8"):
        run("cast", x=reals(1.0), dtype="int4")


def test_rounding_sends_halves_to_even() -> None:
    assert run("round", x=reals(0.5, 1.5, 2.5, -0.5)).tolist() == [0.0, 2.0, 2.0, -0.0]


def test_a_clip_and_a_threshold_keep_their_bounds() -> None:
    assert run("clip", x=reals(-2, 0.25, 9), alpha=-1.0, beta=6.5).tolist() == [-1.0, 0.25, 6.5]
    assert run("threshold", x=reals(-2, 3), alpha=-1.0).tolist() == [-1.0, 3.0]
    lower = run("threshold", declared="int32", x=whole(-2, 3), alpha=np.int32(1))
    assert lower.tolist() == [1, 3]
    assert lower.dtype == np.int32


def test_small_numbers_are_added_under_logs_and_reciprocals() -> None:
    assert run("inverse", x=reals(0.0)) == pytest.approx(1e4)
    assert run("inverse", x=reals(1.0), epsilon=1.0).tolist() == [0.5]
    assert run("log", x=reals(0.0)) == pytest.approx(-103.2789, abs=1e-3)
    assert run("rsqrt", x=reals(0.0)) == pytest.approx(1e6)
    # In float16, the default epsilon of log is nothing.
    assert run("log", declared="fp16", x=reals(0.0)).tolist() == [-np.inf]


def test_a_power_of_two_has_the_type_of_its_exponent() -> None:
    assert run("exp2", declared="int32", x=whole(0, 10)).tolist() == [1, 1024]
    assert run("exp2", x=reals(-1.0)).tolist() == [0.5]


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("abs", [0.5, 0.25]),
        ("acos", [2.0943951, 1.3181161]),
        ("asin", [-0.5235988, 0.2526803]),
        ("atan", [-0.4636476, 0.2449787]),
        ("atanh", [-0.5493061, 0.2554128]),
        ("ceil", [0, 1]),
        ("cos", [0.8775826, 0.9689124]),
        ("cosh", [1.1276260, 1.0314131]),
        ("erf", [-0.5204999, 0.2763264]),
        ("exp", [0.6065307, 1.2840254]),
        ("floor", [-1, 0]),
        ("identity", [-0.5, 0.25]),
        ("relu", [0, 0.25]),
        ("sigmoid", [0.3775407, 0.5621765]),
        ("sign", [-1, 1]),
        ("sin", [-0.4794255, 0.2474040]),
        ("sinh", [-0.5210953, 0.2526123]),
        ("sqrt", [np.nan, 0.5]),
        ("square", [0.25, 0.0625]),
        ("tan", [-0.5463025, 0.2553419]),
        ("tanh", [-0.4621172, 0.2449187]),
    ],
)
def test_functions_of_one_number(type_: str, expected: list[float]) -> None:
    assert run(type_, x=reals(-0.5, 0.25)) == pytest.approx(expected, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize(
    ("type_", "expected"),
    [("add", 7), ("sub", 3), ("mul", 10), ("pow", 25), ("maximum", 5), ("minimum", 2)],
)
def test_functions_of_two_numbers(type_: str, expected: int) -> None:
    assert run(type_, x=whole(5), y=whole(2)).tolist() == [expected]
    assert run(type_, x=reals(5), y=np.float32(2)).tolist() == [expected]


def test_select_takes_a_where_the_condition_holds_and_broadcasts() -> None:
    chosen = run("select", cond=np.array([True, False]), a=reals(1.0), b=np.float32(2.0))
    assert chosen.tolist() == [1.0, 2.0]


def test_comparisons_and_logic() -> None:
    x, y = whole(1, 2, 3), whole(2, 2, 2)
    assert run("less", x=x, y=y).tolist() == [True, False, False]
    assert run("less_equal", x=x, y=y).tolist() == [True, True, False]
    assert run("greater", x=x, y=y).tolist() == [False, False, True]
    assert run("greater_equal", x=x, y=y).tolist() == [False, True, True]
    assert run("equal", x=x, y=y).tolist() == [False, True, False]
    assert run("not_equal", x=x, y=y).tolist() == [True, False, True]
    left, right = np.array([True, True, False]), np.array([True, False, False])
    assert run("logical_and", x=left, y=right).tolist() == [True, False, False]
    assert run("logical_or", x=left, y=right).tolist() == [True, True, False]
    assert run("logical_xor", x=left, y=right).tolist() == [False, True, False]
    assert run("logical_not", x=left).tolist() == [False, False, True]


# Values of the formulas in MIL's definitions, by hand.
@pytest.mark.parametrize(
    ("type_", "x", "arguments", "expected"),
    [
        ("gelu", [1.0, -2.0], {}, [0.8413447, -0.0455003]),
        ("gelu", [1.0, -2.0], {"mode": "TANH_APPROXIMATION"}, [0.8411920, -0.0454023]),
        ("gelu", [1.0, -2.0], {"mode": "SIGMOID_APPROXIMATION"}, [0.8457958, -0.0643414]),
        ("clamped_relu", [9.0, 1.0, -4.0, -40.0], {"alpha": -0.5, "beta": 6.0}, [6, 1, 2, 6]),
        ("thresholded_relu", [0.5, 1.0, 2.0], {"alpha": 1.0}, [0, 1, 2]),
        ("leaky_relu", [-2.0, 2.0], {"alpha": 0.25}, [-0.5, 2]),
        ("elu", [-1.0, 2.0], {"alpha": 2.0}, [-1.2642411, 2]),
        ("linear_activation", [3.0], {"alpha": 2.0, "beta": -1.0}, [5]),
        ("scaled_tanh", [0.5], {"alpha": 3.0, "beta": 2.0}, [2.2847824]),
        ("sigmoid_hard", [-9.0, 1.0, 9.0], {"alpha": 0.25, "beta": 0.5}, [0, 0.75, 1]),
        ("relu6", [-1.0, 3.0, 7.0], {}, [0, 3, 6]),
        ("silu", [2.0], {}, [1.7615942]),
        ("softsign", [-3.0], {}, [-0.75]),
        ("softplus", [0.0, 30.0, -30.0], {}, [0.6931472, 30, 9.357623e-14]),
    ],
)
def test_activations_follow_their_formulas(
    type_: str, x: list[float], arguments: dict[str, Any], expected: list[float]
) -> None:
    assert run(type_, x=reals(*x), **arguments) == pytest.approx(expected, rel=1e-5)


def test_parameters_by_channel_belong_to_the_second_dimension() -> None:
    x = np.full((2, 2, 2), -1.0, np.float32)
    alpha = reals(0.5, 2.0)
    expected = [[[-0.5, -0.5], [-2.0, -2.0]]] * 2
    assert run("prelu", x=x, alpha=alpha).tolist() == expected
    soft = run("softplus_parametric", x=x, alpha=alpha, beta=reals(1.0, -1.0))
    assert soft[1, :, 1] == pytest.approx([0.5 * np.log1p(np.exp(-1)), 2 * np.log1p(np.exp(1))])


def test_softmax_is_along_its_axis_the_last_by_default() -> None:
    x = np.log(np.array([[1, 3], [9, 1]], np.float32))
    along_rows = np.array([[0.25, 0.75], [0.9, 0.1]])
    assert run("softmax", x=x) == pytest.approx(along_rows)
    assert run("softmax", x=x, axis=1) == pytest.approx(along_rows)
    assert run("softmax", x=x, axis=0) == pytest.approx(np.array([[0.1, 0.75], [0.9, 0.25]]))


def test_what_is_not_known_is_an_error() -> None:
    with pytest.raises(UnsupportedError, match=r"got \['slope'\] unknown and no missing"):
        run("relu", x=reals(1.0), slope=0.1)
    with pytest.raises(UnsupportedError, match=r"got no unknown and \['alpha'\] missing"):
        run("leaky_relu", x=reals(1.0))
    with pytest.raises(UnsupportedError, match="got mode 'FAST', needed one of EXACT"):
        run("gelu", x=reals(1.0), mode="FAST")
