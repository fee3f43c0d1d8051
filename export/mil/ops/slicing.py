"""Slices of tensors.

They follow coremltools' MIL definitions ``{iOS15,iOS17,iOS18}/tensor_transformation.py`` and
``iOS15/image_resizing.py`` (``crop``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dfnet.errors import UnsupportedError
from export.mil.registry import Bools, Ints, Result, Tensor, operation


@dataclass(frozen=True)
class _Window:
    """The indices that a slice takes of every dimension, and the dimensions it drops after."""

    indices: tuple[range, ...]
    squeezed: tuple[int, ...]

    @property
    def backward(self) -> list[int]:
        """Dimensions taken in falling order, which a view of torch cannot do."""
        return [dimension for dimension, taken in enumerate(self.indices) if taken.step < 0]

    def view(self, x: Tensor) -> Tensor:
        """The window on ``x``, in rising order and with the dimensions to be squeezed."""
        for dimension, taken in enumerate(self.indices):
            rising = taken if taken.step > 0 else taken[::-1]
            span = rising[-1] - rising[0] + 1 if rising else 0
            x = x.narrow(dimension, rising[0] if rising else 0, span)
            if rising.step > 1:
                whole = (slice(None),) * dimension
                x = x[(*whole, slice(None, None, rising.step))]
        return x


@operation("slice_by_index")
def _slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Result:
    window = _window(x.shape, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    taken = window.view(x)
    if window.backward:
        taken = taken.flip(window.backward)
    return taken.squeeze(window.squeezed)


@operation("slice_update")
def _slice_update(
    x: Tensor,
    update: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Result:
    window = _window(x.shape, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    values = update.reshape([len(taken) for taken in window.indices])
    result = x.clone()
    window.view(result).copy_(values.flip(window.backward) if window.backward else values)
    return result


def _window(
    shape: Sequence[int],
    begin: Ints,
    end: Ints,
    stride: Ints | None,
    begin_mask: Bools | None,
    end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> _Window:
    """What a slice takes: Python's slicing, as coremltools' ``solve_slice_by_index_slice``, so
    that a masked end means the far end in the direction of the stride."""
    rank = len(shape)
    stride = stride or (1,) * rank
    begin_mask, end_mask, squeeze_mask = (
        mask or (False,) * rank for mask in (begin_mask, end_mask, squeeze_mask)
    )
    parameters = (begin, end, stride, begin_mask, end_mask, squeeze_mask)
    if any(len(parameter) != rank for parameter in parameters) or 0 in stride:
        raise UnsupportedError(
            f"got begin {begin}, end {end}, stride {stride} and masks {parameters[3:]}, needed "
            f"{rank} values each and no stride of 0"
        )
    taken = []
    for dimension, size in enumerate(shape):
        first = None if begin_mask[dimension] else begin[dimension]
        if squeeze_mask[dimension]:
            index = range(size)[first or 0]
            taken.append(range(index, index + 1))
        else:
            last = None if end_mask[dimension] else end[dimension]
            taken.append(range(size)[first : last : stride[dimension]])
    squeezed = tuple(dimension for dimension in range(rank) if squeeze_mask[dimension])
    return _Window(tuple(taken), squeezed)


@operation("slice_by_size")
def _slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Result:
    """A size of -1 takes the rest."""
    if not len(begin) == len(size) == x.dim():
        raise UnsupportedError(f"got begin {begin} and size {size}, needed {x.dim()} values each")
    for dimension, (first, length) in enumerate(zip(begin, size, strict=True)):
        first += x.shape[dimension] if first < 0 else 0
        x = x.narrow(dimension, first, x.shape[dimension] - first if length == -1 else length)
    return x


@operation("crop")
def _crop(x: Tensor, crop_height: Ints, crop_width: Ints) -> Result:
    """Removes (top, bottom) and (left, right) from the last two dimensions."""
    for dimension, amounts in ((-2, crop_height), (-1, crop_width)):
        if len(amounts) != 2:
            raise UnsupportedError(f"got {len(amounts)} numbers to crop, needed 2")
        x = x.narrow(dimension, amounts[0], x.shape[dimension] - sum(amounts))
    return x
