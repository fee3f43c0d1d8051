"""Which positions of its input each position of an operator's result reads, along one axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.fx import Node

from dfnet.errors import UnsupportedError

Positions = npt.NDArray[np.int64]
"""A position of the input for each position of the result."""

Window = tuple[Positions, Positions, Fraction]
"""First and last position read, and the step from one result to the next."""


def operator_name(node: Node) -> str:
    """``conv2d`` of ``aten.conv2d.default``."""
    packet = getattr(node.target, "overloadpacket", None)
    return str(getattr(packet, "__name__", getattr(node.target, "__name__", node.target)))


def bound_arguments(node: Node) -> dict[str, Any]:
    """The operator's arguments by name, defaults included."""
    arguments = node.target._schema.arguments  # type: ignore[union-attr]
    given = dict(zip((one.name for one in arguments), node.args, strict=False))
    defaults = {one.name: one.default_value for one in arguments if one.has_default_value()}
    return {**defaults, **given, **node.kwargs}


_IN_PLACE = frozenset(
    ("alias", "clone", "contiguous", "detach", "dropout", "prelu", "relu", "to", "_to_copy")
)
_ALONG_CHANNELS = frozenset(
    ("cat", "chunk", "softmax", "split", "split_with_sizes", "log_softmax", "concat")
)


def stays_in_place(node: Node) -> bool:
    """Whether each position of the result depends on the same position of every input."""
    name = operator_name(node)
    if name == "getitem" or name in _IN_PLACE:
        return True
    if name == "batch_norm":
        return not bound_arguments(node)["training"]
    if name in _ALONG_CHANNELS:
        return bound_arguments(node)["dim"] in (1, -3)
    return torch.Tag.pointwise in getattr(node.target, "tags", ())


def _pair(value: Any, axis: int) -> int:
    """A size given for both axes, or for one after the other."""
    sizes = value if isinstance(value, list | tuple) else [value]
    return int(sizes[0] if len(sizes) == 1 else sizes[axis - 2])


def _convolution(given: dict[str, Any], before: int, after: int, axis: int) -> Window:
    step, dilation = _pair(given["stride"], axis), _pair(given["dilation"], axis)
    reach = dilation * (given["weight"].meta["val"].shape[axis] - 1)
    padding = given["padding"]
    named = {"same": reach // 2, "valid": 0}
    margin = named[padding] if isinstance(padding, str) else _pair(padding, axis)
    first = np.arange(after) * step - margin
    return first, first + reach, Fraction(step)


def _transposed(given: dict[str, Any], before: int, after: int, axis: int) -> Window:
    step, dilation = _pair(given["stride"], axis), _pair(given["dilation"], axis)
    reach = dilation * (given["weight"].meta["val"].shape[axis] - 1)
    place = np.arange(after) + _pair(given["padding"], axis)
    first, last = -((reach - place) // step), place // step
    return np.minimum(first, last), last, Fraction(1, step)


def _pooling(given: dict[str, Any], before: int, after: int, axis: int) -> Window:
    kernel = _pair(given["kernel_size"], axis)
    step = _pair(given["stride"], axis) if given["stride"] else kernel
    first = np.arange(after) * step - _pair(given["padding"], axis)
    return first, first + (kernel - 1) * _pair(given.get("dilation", 1), axis), Fraction(step)


def _shuffle(given: dict[str, Any], before: int, after: int, axis: int) -> Window:
    factor = given["upscale_factor"]
    place = np.arange(after) // factor
    return place, place, Fraction(1, factor)


def _unshuffle(given: dict[str, Any], before: int, after: int, axis: int) -> Window:
    factor = given["downscale_factor"]
    first = np.arange(after) * factor
    return first, first + factor - 1, Fraction(factor)


def _bilinear(given: dict[str, Any], before: int, after: int, axis: int) -> Window:
    if given["align_corners"]:
        raise UnsupportedError(
            "Receptive field: got a resize with align_corners, which depends on the frame's size, "
            "needed align_corners=False."
        )
    place = (np.arange(after) + 0.5) * before / after - 0.5
    first, last = np.floor(place).astype(np.int64), np.ceil(place).astype(np.int64)
    return first, last, Fraction(before, after)


def _nearest(given: dict[str, Any], before: int, after: int, axis: int) -> Window:
    place = np.arange(after) * before // after
    return place, place, Fraction(before, after)


def _padding(given: dict[str, Any], before: int, after: int, axis: int) -> Window:
    sides = given["pad"]
    begin = 2 * (3 - axis)
    place = np.arange(after) - (sides[begin] if begin < len(sides) else 0)
    return place, place, Fraction(1)


WINDOWS: Mapping[str, Callable[[dict[str, Any], int, int, int], Window]] = {
    "conv2d": _convolution,
    "conv_transpose2d": _transposed,
    "avg_pool2d": _pooling,
    "max_pool2d": _pooling,
    "pixel_shuffle": _shuffle,
    "pixel_unshuffle": _unshuffle,
    "upsample_bilinear2d": _bilinear,
    "upsample_nearest2d": _nearest,
    "pad": _padding,
}
"""Operator -> first and last position of its input that each position of its result reads, and the
step from one to the next, from its arguments, both lengths and the axis. Positions beyond the ends
are padding."""
