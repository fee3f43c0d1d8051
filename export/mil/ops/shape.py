"""Operations on shapes, and tensors made from nothing but a few numbers.

They follow coremltools' MIL definitions ``{iOS15,iOS16,iOS17}/tensor_transformation.py`` and
``{iOS15,iOS16}/tensor_operation.py``.
"""

from __future__ import annotations

import math

import torch

from dfnet.errors import UnsupportedError
from export.mil.registry import Ints, Result, Tensor, Tensors, operation


@operation("identity")
def _identity(x: Tensor) -> Result:
    return x


@operation("reshape")
def _reshape(x: Tensor, shape: Ints) -> Result:
    """A 0 stands for the input's size at the same place from the right, or 1 beyond its rank
    (iOS17); before, it is only legal where both ranks are equal, which gives the same."""
    offset = x.dim() - len(shape)
    sizes = [
        size or (x.shape[index + offset] if index + offset >= 0 else 1)
        for index, size in enumerate(shape)
    ]
    return x.reshape(sizes)


@operation("reshape_like")
def _reshape_like(
    x: Tensor, ref_tensors: Tensors, begins: Tensors, ends: Tensors, end_masks: Tensors
) -> Result:
    sizes: list[int] = []
    for reference, begin, end, to_the_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        stop = None if to_the_end.item() else int(end.item())
        sizes += reference.shape[int(begin.item()) : stop]
    return x.reshape(sizes)


@operation("expand_dims")
def _expand_dims(x: Tensor, axes: Ints) -> Result:
    rank = x.dim() + len(axes)
    if any(not -rank <= axis < rank for axis in axes):
        raise UnsupportedError(f"got the axes {axes}, needed axes of {rank} dimensions")
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operation("squeeze")
def _squeeze(x: Tensor, axes: Ints | None = None) -> Result:
    """Axes longer than one stay, as the definition says."""
    return x.squeeze() if axes is None else x.squeeze(axes)


@operation("flatten2d")
def _flatten2d(x: Tensor, axis: int = 1) -> Result:
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operation("shape")
def _shape(x: Tensor) -> Result:
    return torch.tensor(x.shape, dtype=torch.int32)


@operation("fill")
def _fill(shape: Ints, value: Tensor | None = None) -> Result:
    return _filled(shape, value)


@operation("fill_like")
def _fill_like(ref_tensor: Tensor, value: Tensor | None = None) -> Result:
    """The value, not the reference, decides the type."""
    return _filled(ref_tensor.shape, value)


def _filled(shape: Ints | torch.Size, value: Tensor | None) -> Tensor:
    value = torch.zeros(()) if value is None else value
    return torch.full(tuple(shape), value.item(), dtype=value.dtype)


@operation("range_1d")
def _range_1d(end: Tensor, start: Tensor, step: Tensor) -> Result:
    """The length is computed in the type of the bounds, as coremltools does: 0.6 / 0.2 is not
    above 3 in float32."""
    first, increment = start.reshape(()), step.reshape(())
    span = end.reshape(()) - first
    if start.dtype.is_floating_point:
        length, wide = math.ceil((span / increment).item()), torch.float64
    else:
        length, wide = -(-int(span.item()) // int(increment.item())), torch.int64
    values = first.to(wide) + torch.arange(max(0, length)) * increment.to(wide)
    return values.to(start.dtype)


@operation("one_hot")
def _one_hot(
    indices: Tensor,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: Tensor | None = None,
    off_value: Tensor | None = None,
) -> Result:
    """An index outside of the vector lights nothing, as in TensorFlow."""
    lit = indices.long().unsqueeze(-1) == torch.arange(one_hot_vector_size)
    lit = lit.movedim(-1, axis)
    on = torch.ones((), dtype=torch.int32) if on_value is None else on_value.reshape(())
    off = torch.zeros((), dtype=on.dtype) if off_value is None else off_value.reshape(())
    return torch.where(lit, on, off)
