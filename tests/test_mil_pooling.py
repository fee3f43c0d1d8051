from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dfnet.errors import UnsupportedError

from mil_kernels import reals, run


def ramp(*shape: int) -> npt.NDArray[np.float32]:
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


def row(*values: float) -> npt.NDArray[np.float32]:
    return reals(*values).reshape(1, 1, -1)


ROW = row(1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("type_", "arguments", "expected"),
    [
        ("max_pool", {"pad_type": "valid"}, [2, 4]),
        ("max_pool", {"pad_type": "valid", "ceil_mode": True}, [2, 4, 5]),
        ("max_pool", {"pad_type": "SAME"}, [2, 4, 5]),
        ("max_pool", {"pad_type": "same_lower"}, [1, 3, 5]),
        ("max_pool", {"pad_type": "custom", "pad": [0, 3]}, [2, 4, 5, -np.inf]),
        ("avg_pool", {"pad_type": "valid"}, [1.5, 3.5]),
        ("avg_pool", {"pad_type": "same"}, [1.5, 3.5, 2.5]),
        ("avg_pool", {"pad_type": "same_lower"}, [0.5, 2.5, 4.5]),
        ("avg_pool", {"pad_type": "custom", "pad": [1, 1]}, [0.5, 2.5, 4.5]),
        # The window that ceil_mode adds holds one value and none that counts beside it.
        ("avg_pool", {"pad_type": "valid", "ceil_mode": True}, [1.5, 3.5, 5.0]),
        ("l2_pool", {"pad_type": "valid"}, [5**0.5, 5.0]),
        ("l2_pool", {"pad_type": "same"}, [5**0.5, 5.0, 5.0]),
        ("l2_pool", {"pad_type": "valid", "ceil_mode": True}, [5**0.5, 5.0, 5.0]),
    ],
)
def test_windows_of_two_every_two(type_: str, arguments: Any, expected: list[float]) -> None:
    y = run(type_, x=ROW, kernel_sizes=[2], strides=[2], **arguments)
    assert y[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "included", "excluded"),
    [
        ({"pad_type": "same"}, [1.5, 3.5, 2.5], [1.5, 3.5, 5.0]),
        ({"pad_type": "same_lower"}, [0.5, 2.5, 4.5], [1.0, 2.5, 4.5]),
        ({"pad_type": "custom", "pad": [1, 1]}, [0.5, 2.5, 4.5], [1.0, 2.5, 4.5]),
        ({"pad_type": "custom", "pad": [1, 0]}, [0.5, 2.5, 4.5], [1.0, 2.5, 4.5]),
    ],
)
def test_averages_count_the_padding_unless_told_otherwise(
    arguments: Any, included: list[float], excluded: list[float]
) -> None:
    given = {"x": ROW, "kernel_sizes": [2], "strides": [2], **arguments}
    assert run("avg_pool", **given)[0, 0].tolist() == included
    without = run("avg_pool", exclude_padding_from_average=True, **given)
    assert without[0, 0].tolist() == excluded


def test_ceil_mode_drops_a_window_that_begins_in_the_padding() -> None:
    # Without the rule, a third window would begin at 4, behind the padding before and 3 values.
    given: dict[str, Any] = {"x": row(1, 2, 3), "kernel_sizes": [2], "strides": [2]}
    given |= {"pad_type": "custom", "pad": [1, 1], "ceil_mode": True}
    assert run("max_pool", **given)[0, 0].tolist() == [1, 3]
    # The last of these begins inside, and reaches one beyond the padding, which is not counted.
    wide = given | {"x": row(1, 2, 3, 4), "kernel_sizes": [3]}
    assert run("max_pool", **wide)[0, 0].tolist() == [2, 4, 4]
    assert run("avg_pool", **wide)[0, 0] == pytest.approx([1, 3, 2])
    without = run("avg_pool", exclude_padding_from_average=True, **wide)
    assert without[0, 0] == pytest.approx([1.5, 3, 4])


def test_pooling_in_two_and_three_dimensions() -> None:
    plane = run("avg_pool", x=ramp(1, 1, 3, 3), kernel_sizes=[2, 1], pad_type="same")
    assert plane.tolist() == [[[[2.5, 3.5, 4.5], [5.5, 6.5, 7.5], [3.5, 4, 4.5]]]]
    cube = run("max_pool", x=ramp(1, 1, 2, 2, 2), kernel_sizes=[2, 1, 2], pad_type="valid")
    assert cube.tolist() == [[[[[6], [8]]]]]


def test_windows_that_are_not_known_are_errors() -> None:
    given: dict[str, Any] = {"x": ROW, "kernel_sizes": [2], "strides": [2]}
    with pytest.raises(UnsupportedError, match="got ceil_mode with pad_type same"):
        run("max_pool", pad_type="same", ceil_mode=True, **given)
    with pytest.raises(UnsupportedError, match="needed valid, or custom with both sides alike"):
        run("avg_pool", pad_type="custom", pad=[0, 1], ceil_mode=True, **given)
    with pytest.raises(UnsupportedError, match="got a window that begins at 6, needed it inside"):
        run("avg_pool", x=ROW, kernel_sizes=[1], strides=[3], pad_type="valid", ceil_mode=True)
    with pytest.raises(UnsupportedError, match="got pad_type 'full', needed one of valid"):
        run("l2_pool", pad_type="full", **given)
    with pytest.raises(UnsupportedError, match=r"\['kernel_sizes'\] missing"):
        run("max_pool", x=ROW, pad_type="valid")


def test_epsilon_is_added_to_the_variance() -> None:
    x = reals(1, 3).reshape(1, 2)  # Variance 1.
    assert run("layer_norm", x=x, axes=[1], epsilon=3.0).tolist() == [[-0.5, 0.5]]
    default = run("layer_norm", x=x * 1e-3, axes=[-1])
    assert default[0, 1] == pytest.approx(1e-3 / np.sqrt(1e-6 + 1e-5), rel=1e-5)
    pixels = reals(1, 3, 5, 5).reshape(1, 2, 2, 1)
    normed = run("instance_norm", x=pixels, epsilon=3.0, gamma=reals(2, 2), beta=reals(0, 7))
    assert normed.ravel().tolist() == [-1, 1, 7, 7]
    normed = run(
        "batch_norm",
        x=pixels,
        mean=reals(1, 3),
        variance=reals(1, 6),
        gamma=reals(2, 3),
        beta=reals(0, 1),
        epsilon=3.0,
    )
    assert normed.ravel() == pytest.approx([0, 2, 3, 3])


def test_a_layer_is_normed_over_all_axes_or_any_chosen() -> None:
    x = reals(1, 3, 5, 7).reshape(2, 1, 2)
    assert run("layer_norm", x=x, epsilon=0.0).ravel() == pytest.approx(
        np.array([-3, -1, 1, 3]) / np.sqrt(5)
    )
    scaled = run("layer_norm", x=x, axes=[0], gamma=reals(2, 3), beta=reals(0, 1), epsilon=0.0)
    assert scaled.ravel() == pytest.approx([-2, -2, 4, 4])


def test_l2_and_local_response_norms() -> None:
    x = reals(3, 4, 6, 8).reshape(2, 1, 1, 2)
    assert run("l2_norm", x=x, epsilon=0.0).ravel() == pytest.approx([0.6, 0.8, 0.6, 0.8])
    assert run("l2_norm", x=x, epsilon=11.0).ravel()[:2] == pytest.approx([0.5, 4 / 6])
    # Of three channels, the neighbours' squares; the sum is divided by the size.
    y = run(
        "local_response_norm",
        x=reals(1, 2, 3).reshape(1, 3, 1, 1),
        size=3,
        alpha=3.0,
        beta=0.5,
        k=4.0,
    )
    assert y.ravel() == pytest.approx([1 / 3, 2 / np.sqrt(18), 3 / np.sqrt(17)])
