"""Writing values at computed indices.

The operations follow coremltools' MIL definitions ``{iOS15,iOS17}/scatter_gather.py``. Their mode
is "add" by default: two docstrings say "update", the code of all three says "add".
"""

from __future__ import annotations

import torch

from dfnet.errors import UnsupportedError
from export.mil.ops.gather import take, take_points, valid_indices, valid_points
from export.mil.registry import Result, Tensor, one_of, operation

_REDUCTIONS = {"mul": "prod", "max": "amax", "min": "amin"}
_MODES = ("update", "add", "sub", "div", *_REDUCTIONS)


@operation("scatter")
def _scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool | None = None,
) -> Result:
    axis %= data.dim()
    indices = valid_indices(indices, data.shape[axis], validate_indices)
    return _write(data, take(_positions(data), indices, axis), updates, mode)


@operation("scatter_along_axis")
def _scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool | None = None,
) -> Result:
    indices = valid_indices(indices, data.shape[axis], validate_indices)
    return _write(data, torch.take_along_dim(_positions(data), indices, axis), updates, mode)


@operation("scatter_nd")
def _scatter_nd(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    mode: str = "add",
    validate_indices: bool | None = None,
) -> Result:
    points = valid_points(indices, tuple(data.shape), validate_indices)
    return _write(data, take_points(_positions(data), points), updates, mode)


def _positions(data: Tensor) -> Tensor:
    """Every element's position in the flattened tensor, in the tensor's shape."""
    return torch.arange(data.numel()).reshape(data.shape)


def _write(data: Tensor, positions: Tensor, updates: Tensor, mode: str) -> Tensor:
    """``data`` with ``updates`` written at ``positions``; those of one position one by one."""
    one_of("scatter mode", mode, _MODES)
    if updates.shape != positions.shape:
        raise UnsupportedError(
            f"got updates of shape {tuple(updates.shape)}, needed {tuple(positions.shape)}"
        )
    positions, values = positions.reshape(-1), updates.reshape(-1)
    if mode == "update":
        return _replace(data.reshape(-1), positions, values).reshape(data.shape)
    floating = data.dtype.is_floating_point
    # Several updates of one element must not be rounded in between.
    wide = torch.float64 if floating else torch.int64
    flat, values = data.to(wide).reshape(-1), values.to(wide)
    if mode in ("add", "sub"):
        flat = flat.index_add(0, positions, values, alpha=1 if mode == "add" else -1)
    elif mode in _REDUCTIONS:
        flat = flat.scatter_reduce(0, positions, values, _REDUCTIONS[mode])
    elif floating:
        divisor = torch.ones_like(flat).scatter_reduce(0, positions, values, "prod")
        flat = flat / divisor
    else:
        raise UnsupportedError("got integers for the scatter mode div, needed floats")
    return flat.to(data.dtype).reshape(data.shape)


def _replace(flat: Tensor, positions: Tensor, values: Tensor) -> Tensor:
    """The last of several updates of one position wins, as in numpy; torch leaves it open."""
    order = torch.arange(positions.numel())
    last = torch.full(flat.shape, -1).scatter_reduce(0, positions, order, "amax")
    written = last >= 0
    result = flat.clone()
    result[written] = values[last[written]].to(flat.dtype)
    return result
