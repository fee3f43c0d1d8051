"""What convolution and pooling share: the padding around the windows that slide over a tensor.

Follows ``aggregated_pad`` of coremltools' ``mil/ops/defs/_utils.py``; the sides that odd amounts
go to follow the text of the ``conv`` and ``avg_pool`` definitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F

from dfnet.errors import UnsupportedError
from export.mil.registry import Ints, Tensor, one_of

Sides = tuple[tuple[int, int], ...]
"""How much to add before and after each spatial dimension; negative: to take away."""


def spatial_rank(x: Tensor) -> int:
    """The number of dimensions behind batch and channels.

    Raises:
        UnsupportedError: there are none, or more than three.
    """
    rank = x.dim() - 2
    if not 1 <= rank <= 3:
        raise UnsupportedError(f"got {rank} spatial dimensions, needed 1 to 3")
    return rank


def padding_sides(
    pad_type: str, pad: Ints | None, sizes: Sequence[int], extents: Ints, strides: Ints
) -> Sides:
    """The padding for windows of ``extents`` (dilated kernel sizes) over ``sizes``.

    As in MIL, ``pad`` counts for ``custom`` only: writers fill in zeros for the other types.

    Raises:
        UnsupportedError: an unknown ``pad_type``, or a ``pad`` of another length.
    """
    one_of("pad_type", pad_type, ("valid", "same", "same_lower", "custom"))
    if pad_type == "custom":
        return custom_sides(pad, len(sizes))
    if pad_type == "valid":
        return ((0, 0),) * len(sizes)
    sides = []
    for size, extent, stride in zip(sizes, extents, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + extent - size)
        less, more = total // 2, total - total // 2
        sides.append((more, less) if pad_type == "same_lower" else (less, more))
    return tuple(sides)


def custom_sides(pad: Ints | None, rank: int) -> Sides:
    """MIL's flat ``pad`` (before, after, before, ...) by dimension; none is zeros.

    Raises:
        UnsupportedError: ``pad`` has another length.
    """
    if pad is None:
        return ((0, 0),) * rank
    if len(pad) != 2 * rank:
        raise UnsupportedError(f"got {len(pad)} numbers for pad, needed {2 * rank}")
    return tuple(zip(pad[::2], pad[1::2], strict=True))


def pad_sides(x: Tensor, sides: Sides, value: float = 0.0) -> Tensor:
    """``x`` with ``sides`` added around its spatial dimensions."""
    if not any(before or after for before, after in sides):
        return x
    return F.pad(x, [amount for pair in reversed(sides) for amount in pair], value=value)


def is_symmetric(sides: Sides) -> bool:
    """Whether both sides of every dimension are alike, which is what torch's kernels take."""
    return all(before == after for before, after in sides)
