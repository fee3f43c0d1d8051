"""Reductions and the cumulative sum.

Follows coremltools' MIL definitions ``iOS15/reduction.py`` and ``iOS17/reduction.py``, and
``cumsum`` of ``iOS15/tensor_operation.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from dfnet.errors import UnsupportedError
from export.mil.dtypes import dtype_named
from export.mil.registry import Ints, Tensor, one_of, operation

_Reduction = Callable[[Tensor, Ints, bool], Tensor]


def _l1_norm(x: Tensor, axes: Ints, keep_dims: bool) -> Tensor:
    return x.abs().sum(axes, keep_dims)


def _l2_norm(x: Tensor, axes: Ints, keep_dims: bool) -> Tensor:
    return x.square().sum(axes, keep_dims).sqrt()


def _log_sum(x: Tensor, axes: Ints, keep_dims: bool) -> Tensor:
    return x.sum(axes, keep_dims).log()


def _mean(x: Tensor, axes: Ints, keep_dims: bool) -> Tensor:
    return x.mean(axes, keep_dims)


def _product(x: Tensor, axes: Ints, keep_dims: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keep_dims)
    return x


def _sum(x: Tensor, axes: Ints, keep_dims: bool) -> Tensor:
    return x.sum(axes, keep_dims)


def _sum_square(x: Tensor, axes: Ints, keep_dims: bool) -> Tensor:
    return x.square().sum(axes, keep_dims)


_REDUCTIONS: dict[str, _Reduction] = {
    "reduce_l1_norm": _l1_norm,
    "reduce_l2_norm": _l2_norm,
    "reduce_log_sum": _log_sum,
    "reduce_log_sum_exp": torch.logsumexp,
    "reduce_max": torch.amax,
    "reduce_mean": _mean,
    "reduce_min": torch.amin,
    "reduce_prod": _product,
    "reduce_sum": _sum,
    "reduce_sum_square": _sum_square,
}


def _register_reduction(type_: str, function: _Reduction) -> None:
    @operation(type_)
    def _reduce(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        """MIL types the result like ``x``: of integers, a mean or root is cut off."""
        dims = _dims(x, axes)
        if x.is_floating_point():
            return function(x, dims, keep_dims)
        return function(x.double(), dims, keep_dims).to(x.dtype)


def _dims(x: Tensor, axes: Ints | None) -> Ints:
    """All dimensions by default. An empty list would mean all to torch, none to numpy."""
    dims = range(x.dim()) if axes is None else axes
    if not dims:
        raise UnsupportedError("got no axes to reduce, needed at least one")
    return tuple(axis + x.dim() if axis < 0 else axis for axis in dims)


for _type, _function in _REDUCTIONS.items():
    _register_reduction(_type, _function)


@operation("reduce_argmax")
def _argmax(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    return _indices(torch.argmax(x, axis, keep_dims), output_dtype)


@operation("reduce_argmin")
def _argmin(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    return _indices(torch.argmin(x, axis, keep_dims), output_dtype)


def _indices(found: Tensor, output_dtype: str) -> Tensor:
    name = one_of("output_dtype", output_dtype.lower(), ("int32", "uint16"))
    return found.to(dtype_named(name).carrier)


@operation("cumsum")
def _cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    values = x.flip(axis) if reverse else x
    if exclusive:
        # Shifted before the sum: subtracting afterwards would lose digits.
        first = torch.zeros_like(values.narrow(axis, 0, 1))
        values = torch.cat([first, values.narrow(axis, 0, x.shape[axis] - 1)], dim=axis)
    sums = torch.cumsum(values, axis, dtype=x.dtype)
    return sums.flip(axis) if reverse else sums
