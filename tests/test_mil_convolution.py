from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dfnet.errors import UnsupportedError
from export.mil.arithmetic import Arithmetic, add_in_float16
from export.mil.ops import convolution

from mil_kernels import run


def ramp(*shape: int) -> npt.NDArray[np.float32]:
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


def integers(seed: int, *shape: int) -> npt.NDArray[np.float32]:
    """Small whole numbers: every sum of their products is exact."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def correlate(
    x: npt.NDArray[Any],
    weight: npt.NDArray[Any],
    before: tuple[int, int],
    size: tuple[int, int],
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> npt.NDArray[Any]:
    """A convolution by its definition; what lies outside of ``x`` is 0."""
    outputs, depth, *kernel = weight.shape
    y = np.zeros((x.shape[0], outputs, *size))
    for n, out, i, j in np.ndindex(*y.shape):
        first = out // (outputs // groups) * depth
        for c, k, m in np.ndindex(depth, *kernel):
            row = i * stride + k * dilation - before[0]
            column = j * stride + m * dilation - before[1]
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                y[n, out, i, j] += x[n, first + c, row, column] * weight[out, c, k, m]
    return y


def spread(
    x: npt.NDArray[Any],
    weight: npt.NDArray[Any],
    before: tuple[int, int],
    size: tuple[int, int],
    stride: int,
    groups: int = 1,
) -> npt.NDArray[Any]:
    """A transposed convolution by its definition: every input adds a kernel to the output."""
    depth, outputs, *kernel = weight.shape
    y = np.zeros((x.shape[0], outputs * groups, *size))
    for n, c, i, j in np.ndindex(*x.shape):
        first = c // (depth // groups) * outputs
        for out, k, m in np.ndindex(outputs, *kernel):
            row, column = i * stride + k - before[0], j * stride + m - before[1]
            if 0 <= row < size[0] and 0 <= column < size[1]:
                y[n, first + out, row, column] += x[n, c, i, j] * weight[c, out, k, m]
    return y


@pytest.mark.parametrize("sums", Arithmetic)
@pytest.mark.parametrize(
    ("pad_type", "pad", "stride", "before", "size"),
    [
        ("valid", None, 1, (0, 0), (4, 3)),
        ("valid", [9, 9, 9, 9], 2, (0, 0), (2, 2)),
        ("same", None, 1, (0, 1), (5, 6)),
        ("same_lower", None, 1, (1, 2), (5, 6)),
        ("same", None, 2, (0, 1), (3, 3)),
        ("same_lower", None, 2, (1, 1), (3, 3)),
        ("custom", [2, 0, 1, 3], 1, (2, 1), (6, 7)),
        ("custom", [1, 1, 2, 2], 2, (1, 2), (3, 4)),
    ],
)
def test_a_convolution_pads_where_its_type_says(
    pad_type: str,
    pad: list[int] | None,
    stride: int,
    before: tuple[int, int],
    size: tuple[int, int],
    sums: Arithmetic,
) -> None:
    x, weight, bias = integers(1, 2, 3, 5, 6), integers(2, 4, 3, 2, 4), ramp(4)
    given = {} if pad is None else {"pad": pad}
    y = run(
        "conv",
        declared="fp16",
        sums=sums,
        x=x,
        weight=weight,
        bias=bias,
        pad_type=pad_type,
        strides=[stride, stride],
        **given,
    )
    expected = correlate(x, weight, before, size, stride) + bias.reshape(-1, 1, 1)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("sums", Arithmetic)
def test_groups_and_dilations_of_a_convolution(sums: Arithmetic) -> None:
    x, weight = integers(3, 1, 40, 5, 5), integers(4, 6, 20, 2, 2)
    y = run("conv", declared="fp16", sums=sums, x=x, weight=weight, dilations=[2, 2], groups=2)
    np.testing.assert_array_equal(y, correlate(x, weight, (0, 0), (3, 3), dilation=2, groups=2))


@pytest.mark.parametrize("sums", Arithmetic)
def test_one_and_three_dimensions(sums: Arithmetic) -> None:
    line: dict[str, Any] = {
        "x": ramp(1, 1, 4),
        "weight": ramp(1, 1, 2),
        "declared": "fp16",
        "sums": sums,
    }
    assert run("conv", **line).tolist() == [[[5, 8, 11]]]
    assert run("conv_transpose", **line).tolist() == [[[1, 4, 7, 10, 8]]]
    cube: dict[str, Any] = {
        "x": ramp(1, 1, 2, 2, 2),
        "weight": ramp(1, 1, 2, 2, 2),
        "declared": "fp16",
    }
    assert run("conv", sums=sums, **cube).tolist() == [[[[[204]]]]]
    assert run("conv_transpose", sums=sums, **cube)[0, 0, 1, 1, 1] == 120


def test_sums_in_float16_lose_what_sums_in_float32_keep() -> None:
    x = np.ones((1, 32, 1, 2), np.float32)
    weight = np.full((1, 32, 1, 2), 1 / 16, np.float32)
    weight[:, :16, :, 0] = 128.0  # 2048 from the first part; then, three parts of 1 are lost.
    exact = run("conv", declared="fp16", x=x, weight=weight, bias=np.full(1, 0.5, np.float32))
    parts = run(
        "conv",
        declared="fp16",
        sums=Arithmetic.FLOAT16_SUMS,
        x=x,
        weight=weight,
        bias=np.full(1, 0.5, np.float32),
    )
    assert exact.item() == 2051.5
    assert parts.item() == 2048.5
    wide: dict[str, Any] = {"declared": "fp32", "sums": Arithmetic.FLOAT16_SUMS}
    assert run("conv", x=x, weight=weight, **wide).item() == 2051.0


@pytest.mark.parametrize("sums", Arithmetic)
@pytest.mark.parametrize(
    ("pad_type", "pad", "output_shape", "before", "size"),
    [
        ("valid", None, None, (0, 0), (7, 5)),
        ("valid", None, [1, 4, 8, 6], (0, 0), (8, 6)),
        ("same", None, None, (0, 0), (6, 4)),
        ("same", None, [1, 4, 5, 3], (1, 1), (5, 3)),
        ("custom", [1, 1, 0, 0], None, (1, 0), (5, 5)),
        ("custom", [1, 0, 0, 2], None, (1, 0), (6, 3)),
        ("custom", [0, 2, 0, 1], None, (0, 0), (5, 4)),
        ("custom", [1, 1, 1, 1], [1, 4, 6, 4], (1, 1), (6, 4)),
        ("custom", [1, 1, 1, 1], [1, 4, 9, 3], (1, 1), (9, 3)),
    ],
)
def test_a_transposed_convolution_cuts_where_its_type_says(
    pad_type: str,
    pad: list[int] | None,
    output_shape: list[int] | None,
    before: tuple[int, int],
    size: tuple[int, int],
    sums: Arithmetic,
) -> None:
    x, weight, bias = integers(5, 1, 36, 3, 2), integers(6, 36, 2, 3, 3), ramp(4)
    given = {"pad": pad, "output_shape": output_shape}
    y = run(
        "conv_transpose",
        declared="fp16",
        sums=sums,
        x=x,
        weight=weight,
        bias=bias,
        pad_type=pad_type,
        strides=[2, 2],
        groups=2,
        **{name: value for name, value in given.items() if value is not None},
    )
    expected = spread(x, weight, before, size, 2, groups=2) + bias.reshape(-1, 1, 1)
    np.testing.assert_array_equal(y, expected)


def test_padding_that_is_not_known_is_an_error() -> None:
    x, weight = ramp(1, 1, 3, 3), ramp(1, 1, 2, 2)
    with pytest.raises(UnsupportedError, match="got pad_type 'SAME', needed one of valid, same"):
        run("conv", x=x, weight=weight, pad_type="SAME")
    with pytest.raises(UnsupportedError, match="needed one of valid, same, custom"):
        run("conv_transpose", x=x, weight=weight, pad_type="same_lower")
    with pytest.raises(UnsupportedError, match="got 2 numbers for pad, needed 4"):
        run("conv", x=x, weight=weight, pad_type="custom", pad=[1, 1])
    with pytest.raises(UnsupportedError, match="got 2 numbers for output_shape, needed 4"):
        run("conv_transpose", x=x, weight=weight, output_shape=[4, 4])
    with pytest.raises(UnsupportedError, match="got 0 spatial dimensions, needed 1 to 3"):
        run("conv", x=ramp(1, 1), weight=ramp(1, 1))


def test_the_fast_sums_in_float16_are_the_plain_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 20, 9, 7, generator=generator)
    weight = torch.randn(3, 20, 3, 2, generator=generator)
    dilations = (2, 1)
    extents = convolution._extents(weight, dilations)
    assert extents == (5, 2)
    fast = convolution._convolve_flat(x, weight, dilations)
    plain = add_in_float16(convolution._partial_sums(x, weight, (1, 1), dilations, 1))
    exact = torch.nn.functional.conv2d(x.double(), weight.double(), dilation=dilations)
    assert fast.shape == plain.shape == exact.shape
    # The float32 sums within a part may be rounded in another order.
    assert torch.allclose(fast, plain, atol=2e-2)
    assert float((plain - exact).abs().max()) > 1e-3
    assert float((fast - exact).abs().max()) < 5e-2
