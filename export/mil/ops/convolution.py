"""Convolution and transposed convolution in one to three dimensions.

Follows coremltools' MIL definitions ``iOS15/conv.py`` and ``iOS17/conv.py``. The experimental
``conv_quantized``, for which they give no meaning beyond types, is not here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from dfnet.errors import UnsupportedError
from export.mil.arithmetic import PARTIAL_SUM, add_in_float16
from export.mil.ops.windows import (
    Sides,
    custom_sides,
    is_symmetric,
    pad_sides,
    padding_sides,
    spatial_rank,
)
from export.mil.registry import Call, Ints, Tensor, one_of, operation

_CONVOLUTIONS: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED: tuple[Callable[..., Tensor], ...] = (
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
)


@operation("conv")
def _conv(
    call: Call,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    rank = spatial_rank(x)
    strides = strides or (1,) * rank
    dilations = dilations or (1,) * rank
    extents = _extents(weight, dilations)
    sides = padding_sides(pad_type, pad, x.shape[2:], extents, strides)
    if call.sums_in_float16:
        if rank == 2 and groups == 1 and set(strides) == {1}:
            return _add_bias(_convolve_flat(pad_sides(x, sides), weight, dilations), bias)
        sums = _partial_sums(pad_sides(x, sides), weight, strides, dilations, groups)
        return _add_bias(add_in_float16(sums), bias)
    convolve = _CONVOLUTIONS[rank - 1]
    if is_symmetric(sides):
        padding = [before for before, _ in sides]
        return convolve(x, weight, bias, strides, padding, dilations, groups)
    return convolve(pad_sides(x, sides), weight, bias, strides, 0, dilations, groups)


def _extents(weight: Tensor, dilations: Ints) -> Ints:
    """The sizes of a kernel with its holes."""
    return tuple(
        (size - 1) * dilation + 1
        for size, dilation in zip(weight.shape[2:], dilations, strict=True)
    )


def _partial_sums(
    x: Tensor, weight: Tensor, strides: Ints, dilations: Ints, groups: int
) -> Iterator[Tensor]:
    """A convolution of the padded ``x`` in parts: one kernel tap and a few input channels each."""
    convolve = _CONVOLUTIONS[x.dim() - 3]
    spans = [
        size - extent + 1
        for size, extent in zip(x.shape[2:], _extents(weight, dilations), strict=True)
    ]
    for tap in itertools.product(*(range(size) for size in weight.shape[2:])):
        offsets = [index * dilation for index, dilation in zip(tap, dilations, strict=True)]
        seen = tuple(
            slice(offset, offset + span, stride)
            for offset, span, stride in zip(offsets, spans, strides, strict=True)
        )
        shifted = x[:, :, *seen]
        one_tap = weight[:, :, *(slice(index, index + 1) for index in tap)]
        for start in range(0, weight.shape[1], PARTIAL_SUM):
            channels = _group_channels(shifted, 1, groups, start)
            yield convolve(channels, one_tap[:, start : start + PARTIAL_SUM], groups=groups)


def _convolve_flat(x: Tensor, weight: Tensor, dilations: Ints) -> Tensor:
    """``_partial_sums`` added up, for the convolutions that images have most.

    With its rows laid end to end, a picture shifted by a kernel tap is a view of itself, so that
    every partial sum is one product of matrices. What is computed past a row's end is cut off.
    """
    batch, _, height, width = x.shape
    tall, wide = (
        size - extent + 1
        for size, extent in zip((height, width), _extents(weight, dilations), strict=True)
    )
    rows = F.pad(x.flatten(2), (0, width - wide))

    def partial_sums() -> Iterator[Tensor]:
        for i, j in itertools.product(*map(range, weight.shape[2:])):
            offset = i * dilations[0] * width + j * dilations[1]
            shifted = rows[:, :, offset : offset + tall * width]
            for start in range(0, weight.shape[1], PARTIAL_SUM):
                part = slice(start, start + PARTIAL_SUM)
                yield torch.matmul(weight[:, part, i, j], shifted[:, part])

    total = add_in_float16(partial_sums())
    return total.reshape(batch, -1, tall, width)[..., :wide].contiguous()


def _group_channels(value: Tensor, dim: int, groups: int, start: int) -> Tensor:
    """``PARTIAL_SUM`` channels of every group from its channel ``start`` on."""
    sizes = (*value.shape[:dim], groups, -1, *value.shape[dim + 1 :])
    grouped = value.reshape(sizes)
    length = min(PARTIAL_SUM, grouped.shape[dim + 1] - start)
    return grouped.narrow(dim + 1, start, length).flatten(dim, dim + 1)


def _add_bias(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias.reshape(-1, *(1,) * (x.dim() - 2))


@operation("conv_transpose")
def _conv_transpose(
    call: Call,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    rank = spatial_rank(x)
    strides = strides or (1,) * rank
    dilations = dilations or (1,) * rank
    full = tuple(
        (size - 1) * stride + extent
        for size, stride, extent in zip(
            x.shape[2:], strides, _extents(weight, dilations), strict=True
        )
    )
    scaled = tuple(size * stride for size, stride in zip(x.shape[2:], strides, strict=True))
    sides = _crop(pad_type, pad, full, scaled, _spatial(output_shape, rank))

    def transpose(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return _transpose(x, weight, bias, sides, strides, dilations, groups)

    if not call.sums_in_float16:
        return transpose(x, weight, bias)
    sums = (
        transpose(_group_channels(x, 1, groups, start), _group_channels(weight, 0, groups, start))
        for start in range(0, weight.shape[0] // groups, PARTIAL_SUM)
    )
    return _add_bias(add_in_float16(sums), bias)


def _spatial(output_shape: Ints | None, rank: int) -> Ints | None:
    if output_shape is None:
        return None
    if len(output_shape) != rank + 2:
        raise UnsupportedError(
            f"got {len(output_shape)} numbers for output_shape, needed {rank + 2}"
        )
    return output_shape[2:]


def _crop(pad_type: str, pad: Ints | None, full: Ints, scaled: Ints, wanted: Ints | None) -> Sides:
    """What to cut off before and after the ``full`` sizes; negative: zeros to add.

    ``pad`` is cut off before; what comes after follows from the ``wanted`` sizes if there are any.
    ``same`` keeps ``scaled`` sizes and cuts an odd amount more at the end, where the convolution
    that this transposes has padded more.
    """
    one_of("pad_type", pad_type, ("valid", "same", "custom"))
    if pad_type == "same":
        kept = wanted or scaled
        before = [max(0, have - keep) // 2 for have, keep in zip(full, kept, strict=True)]
    else:
        rank = len(full)
        sides = custom_sides(pad, rank) if pad_type == "custom" else ((0, 0),) * rank
        before = [first for first, _ in sides]
        kept = wanted or tuple(have - sum(pair) for have, pair in zip(full, sides, strict=True))
    return tuple(
        (first, have - first - keep) for first, have, keep in zip(before, full, kept, strict=True)
    )


def _transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    crop: Sides,
    strides: Ints,
    dilations: Ints,
    groups: int,
) -> Tensor:
    transpose = _TRANSPOSED[x.dim() - 3]
    # torch crops the same amount on both sides and then gives some back at the end.
    padding = [before for before, _ in crop]
    given_back = [before - after for before, after in crop]
    if all(
        0 <= back < max(stride, dilation)
        for back, stride, dilation in zip(given_back, strides, dilations, strict=True)
    ):
        return transpose(x, weight, bias, strides, padding, given_back, groups, dilations)
    full = transpose(x, weight, None, strides, 0, 0, groups, dilations)
    return _add_bias(pad_sides(full, tuple((-before, -after) for before, after in crop)), bias)
