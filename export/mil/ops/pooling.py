"""Pooling in one to three dimensions.

Follows coremltools' MIL definition ``iOS15/pool.py``, and ``spatial_dimensions_out_shape`` of
``mil/ops/defs/_utils.py`` for the size that ``ceil_mode`` gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from dfnet.errors import UnsupportedError
from export.mil.ops.windows import Sides, is_symmetric, pad_sides, padding_sides, spatial_rank
from export.mil.registry import Ints, Tensor, operation

_MAXIMUM: tuple[Callable[..., Tensor], ...] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_AVERAGE: tuple[Callable[..., Tensor], ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


@dataclass(frozen=True)
class _Windows:
    """``excess`` is what the last windows reach beyond the padding in ``ceil_mode``."""

    sizes: Ints
    strides: Ints
    sides: Sides
    excess: Sides

    @property
    def fits_torch(self) -> bool:
        """Whether torch can pad: by the same amount on both sides, at most half a window."""
        return (
            is_symmetric(self.sides)
            and all(
                2 * side <= size for (side, _), size in zip(self.sides, self.sizes, strict=True)
            )
            and not any(after for _, after in self.excess)
        )

    @property
    def padding(self) -> list[int]:
        """What torch is to pad by if ``fits_torch``."""
        return [before for before, _ in self.sides]

    def pad(self, x: Tensor, value: float = 0.0) -> Tensor:
        """``x`` with all that windows reach."""
        return pad_sides(pad_sides(x, self.sides, value), self.excess, value)

    def sums(self, padded: Tensor) -> Tensor:
        """The sum over every window of a padded tensor."""
        for dim, (size, stride) in enumerate(zip(self.sizes, self.strides, strict=True), start=2):
            padded = padded.unfold(dim, size, stride).sum(dim=-1)
        return padded


@operation("max_pool")
def _max_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    windows = _windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode)
    pool = _MAXIMUM[x.dim() - 3]
    if windows.fits_torch:
        return pool(x, windows.sizes, windows.strides, windows.padding)
    return pool(windows.pad(x, -math.inf), windows.sizes, windows.strides)


@operation("avg_pool")
def _avg_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
    exclude_padding_from_average: bool = False,
) -> Tensor:
    """What ``ceil_mode`` adds is never counted, as in PyTorch, which MIL refers to."""
    windows = _windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode)
    if windows.fits_torch:
        return _AVERAGE[x.dim() - 3](
            x,
            windows.sizes,
            windows.strides,
            windows.padding,
            count_include_pad=not exclude_padding_from_average,
        )
    counted = pad_sides(
        torch.ones_like(x[:1, :1]), windows.sides, 0.0 if exclude_padding_from_average else 1.0
    )
    return windows.sums(windows.pad(x)) / windows.sums(pad_sides(counted, windows.excess))


@operation("l2_pool")
def _l2_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    windows = _windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode)
    return torch.sqrt(windows.sums(windows.pad(x * x)))


def _windows(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None,
    pad: Ints | None,
    ceil_mode: bool,
) -> _Windows:
    rank = spatial_rank(x)
    strides = strides or (1,) * rank
    # Here, other than for convolutions, MIL takes any case.
    sides = padding_sides(pad_type.lower(), pad, x.shape[2:], kernel_sizes, strides)
    if not ceil_mode:
        return _Windows(kernel_sizes, strides, sides, ((0, 0),) * rank)
    if not is_symmetric(sides) or pad_type.lower() not in ("valid", "custom"):
        raise UnsupportedError(
            f"got ceil_mode with pad_type {pad_type} and pad {sides}, needed valid, or custom with "
            "both sides alike"
        )
    excess = tuple(
        (0, _excess(size, window, stride, side))
        for size, window, stride, (side, _) in zip(
            x.shape[2:], kernel_sizes, strides, sides, strict=True
        )
    )
    return _Windows(kernel_sizes, strides, sides, excess)


def _excess(size: int, window: int, stride: int, side: int) -> int:
    padded = size + 2 * side
    last = -(-(padded - window) // stride) * stride
    if last >= size + side:
        if side == 0:
            raise UnsupportedError(
                f"got a window that begins at {last}, needed it inside the {size} values"
            )
        last -= stride
    return max(0, last + window - padded)
