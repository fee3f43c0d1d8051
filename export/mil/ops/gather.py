"""Reading values at computed indices.

The operations follow coremltools' MIL definitions ``{iOS15,iOS16,iOS17}/scatter_gather.py``.
"""

from __future__ import annotations

import math

import torch

from dfnet.errors import UnsupportedError
from export.mil.registry import Result, Tensor, operation


def valid_indices(indices: Tensor, size: int, validate_indices: bool | None) -> Tensor:
    """Indices into ``size`` values, none of them negative.

    Negative ones count from the end, except since iOS17, which has ``validate_indices``: there
    they are out of bounds, and what Core ML reads out of bounds is undefined.

    Raises:
        UnsupportedError: an index is out of bounds.
    """
    indices = indices.long()
    lowest = -size if validate_indices is None else 0
    if indices.numel():
        least, most = (int(bound) for bound in torch.aminmax(indices))
        if least < lowest or most >= size:
            raise UnsupportedError(
                f"got indices from {least} to {most}, needed them in [{lowest}, {size})"
            )
    return torch.where(indices < 0, indices + size, indices)


def take(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """The slices of ``x`` along ``axis`` at ``indices``, whose shape replaces that dimension."""
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    return x.index_select(axis, indices.reshape(-1)).reshape((*before, *indices.shape, *after))


def take_points(x: Tensor, indices: Tensor) -> Tensor:
    """What ``x`` holds at the points in the last dimension of ``indices``, which index its first
    dimensions."""
    return x[indices.unbind(-1)] if indices.shape[-1] else x.expand(*indices.shape[:-1], *x.shape)


def valid_points(indices: Tensor, sizes: tuple[int, ...], validate: bool | None) -> Tensor:
    """As ``valid_indices``, for points of dimensions that have ``sizes``."""
    if indices.shape[-1] > len(sizes):
        raise UnsupportedError(
            f"got points of {indices.shape[-1]} dimensions, needed at most {len(sizes)}"
        )
    axes = [
        valid_indices(indices[..., axis], sizes[axis], validate)
        for axis in range(indices.shape[-1])
    ]
    return torch.stack(axes, -1) if axes else indices.long()


@operation("gather")
def _gather(
    x: Tensor,
    indices: Tensor,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool | None = None,
) -> Result:
    axis %= x.dim()
    indices = valid_indices(indices, x.shape[axis], validate_indices)
    if not batch_dims:
        return take(x, indices, axis)
    _check_batch(x, indices, batch_dims)
    if axis < batch_dims:
        raise UnsupportedError(f"got axis {axis} of {batch_dims} batch dimensions")
    before, after = x.shape[batch_dims:axis], x.shape[axis + 1 :]
    batch, inner = math.prod(x.shape[:batch_dims]), indices.shape[batch_dims:]
    values = x.reshape(batch, math.prod(before), x.shape[axis], math.prod(after))
    taken = torch.take_along_dim(values, indices.reshape(batch, 1, math.prod(inner), 1), 2)
    return taken.reshape((*x.shape[:batch_dims], *before, *inner, *after))


@operation("gather_along_axis")
def _gather_along_axis(
    x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool | None = None
) -> Result:
    indices = valid_indices(indices, x.shape[axis], validate_indices)
    return torch.take_along_dim(x, indices, axis)


@operation("gather_nd")
def _gather_nd(
    x: Tensor, indices: Tensor, batch_dims: int = 0, validate_indices: bool | None = None
) -> Result:
    _check_batch(x, indices, batch_dims)
    points = valid_points(indices, tuple(x.shape[batch_dims:]), validate_indices)
    if not batch_dims:
        return take_points(x, points)
    # The place in the batch becomes a first coordinate.
    batch = math.prod(x.shape[:batch_dims])
    place = torch.arange(batch).reshape((*x.shape[:batch_dims], *[1] * (points.dim() - batch_dims)))
    points = torch.cat((place.expand(*points.shape[:-1], 1), points), -1)
    return take_points(x.reshape(batch, *x.shape[batch_dims:]), points)


def _check_batch(x: Tensor, indices: Tensor, batch_dims: int) -> None:
    batch = tuple(x.shape[:batch_dims])
    if batch_dims < 0 or tuple(indices.shape[:batch_dims]) != batch:
        raise UnsupportedError(
            f"got indices of shape {tuple(indices.shape)}, needed the {batch_dims} batch "
            f"dimensions {batch}"
        )
