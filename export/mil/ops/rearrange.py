"""Operations that move values without changing them.

They follow coremltools' MIL definitions ``{iOS15,iOS16,iOS17}/tensor_transformation.py`` and
``iOS15/tensor_operation.py``.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from dfnet.errors import UnsupportedError
from export.mil.registry import Ints, Result, Tensor, Tensors, one_of, operation


@operation("pixel_shuffle")
def _pixel_shuffle(x: Tensor, upscale_factor: int) -> Result:
    return functional.pixel_shuffle(x, upscale_factor)


@operation("pixel_unshuffle")
def _pixel_unshuffle(x: Tensor, downscale_factor: int) -> Result:
    return functional.pixel_unshuffle(x, downscale_factor)


@operation("depth_to_space")
def _depth_to_space(x: Tensor, block_size: int) -> Result:
    """Unlike ``pixel_shuffle``, the place in the block is the slower part of the input channel:
    this is what TensorFlow's operation of this name, which becomes this one, does."""
    batch, channels, height, width = x.shape
    kept = channels // block_size**2
    blocks = x.reshape(batch, block_size, block_size, kept, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(
        batch, kept, height * block_size, width * block_size
    )


@operation("space_to_depth")
def _space_to_depth(x: Tensor, block_size: int) -> Result:
    """The inverse of ``depth_to_space``, and so unlike ``pixel_unshuffle``."""
    batch, channels, height, width = x.shape
    rows, columns = height // block_size, width // block_size
    blocks = x.reshape(batch, channels, rows, block_size, columns, block_size)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * block_size**2, rows, columns)


@operation("space_to_batch")
def _space_to_batch(x: Tensor, block_shape: Ints, paddings: Ints) -> Result:
    """The place in the block is the slowest part of the new batch (Apple's test
    ``TestSpaceToBatch``)."""
    (down, across), (top, bottom, left, right) = _block(block_shape, paddings, "paddings")
    padded = functional.pad(x, [left, right, top, bottom])
    batch, channels, height, width = padded.shape
    rows, columns = height // down, width // across
    blocks = padded.reshape(batch, channels, rows, down, columns, across)
    return blocks.permute(3, 5, 0, 1, 2, 4).reshape(-1, channels, rows, columns)


@operation("batch_to_space")
def _batch_to_space(x: Tensor, block_shape: Ints, crops: Ints) -> Result:
    (down, across), (top, bottom, left, right) = _block(block_shape, crops, "crops")
    batches, channels, rows, columns = x.shape
    blocks = x.reshape(down, across, batches // (down * across), channels, rows, columns)
    height, width = rows * down, columns * across
    joined = blocks.permute(2, 3, 4, 0, 5, 1).reshape(-1, channels, height, width)
    return joined[:, :, top : height - bottom, left : width - right]


def _block(shape: Ints, edges: Ints, what: str) -> tuple[Ints, Ints]:
    if len(shape) != 2 or len(edges) != 4:
        raise UnsupportedError(
            f"got {len(shape)} block sizes and {len(edges)} {what}, needed 2 and 4"
        )
    return shape, edges


@operation("transpose")
def _transpose(x: Tensor, perm: Ints) -> Result:
    return x.permute(perm)


@operation("concat")
def _concat(values: Tensors, axis: int, interleave: bool = False) -> Result:
    """Scalars become a vector, as in the type inference of the definition."""
    vectors = [value.reshape(1) if value.dim() == 0 else value for value in values]
    if not interleave:
        return torch.cat(vectors, axis)
    axis %= vectors[0].dim()
    return torch.stack(vectors, axis + 1).flatten(axis, axis + 1)


@operation("stack")
def _stack(values: Tensors, axis: int) -> Result:
    return torch.stack(values, axis)


@operation("split")
def _split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None
) -> Result:
    size = x.shape[axis]
    if split_sizes is None:
        if num_splits is None or size % num_splits:
            raise UnsupportedError(f"got {num_splits} splits of {size}, needed equal ones")
        split_sizes = (size // num_splits,) * num_splits
    elif num_splits not in (None, len(split_sizes)):
        raise UnsupportedError(f"got {len(split_sizes)} split sizes, needed {num_splits}")
    return torch.split(x, list(split_sizes), axis)


@operation("tile")
def _tile(x: Tensor, reps: Ints) -> Result:
    if len(reps) != x.dim():
        raise UnsupportedError(f"got {len(reps)} repetitions, needed {x.dim()}")
    return x.repeat(reps)


@operation("reverse")
def _reverse(x: Tensor, axes: Ints | None = None) -> Result:
    return x.flip(tuple(range(x.dim())) if axes is None else axes)


@operation("reverse_sequence")
def _reverse_sequence(x: Tensor, lengths: Tensor, seq_axis: int = 0, batch_axis: int = 0) -> Result:
    seq_axis, batch_axis = seq_axis % x.dim(), batch_axis % x.dim()
    if seq_axis == batch_axis:
        raise UnsupportedError(f"got {seq_axis} as both axes, needed two different axes")
    position = torch.arange(x.shape[seq_axis]).reshape(_along(seq_axis, x.dim()))
    length = lengths.long().reshape(_along(batch_axis, x.dim()))
    source = torch.where(position < length, length - 1 - position, position)
    return torch.take_along_dim(x, source, seq_axis)


def _along(axis: int, rank: int) -> list[int]:
    """The shape of a vector that broadcasts along ``axis``."""
    return [-1 if dimension == axis else 1 for dimension in range(rank)]


@operation("sliding_windows")
def _sliding_windows(x: Tensor, axis: int, size: int, stride: int = 1) -> Result:
    axis %= x.dim()
    return x.unfold(axis, size, stride).movedim(-1, axis + 1)


@operation("band_part")
def _band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Result:
    row = torch.arange(x.shape[-2])[:, None]
    column = torch.arange(x.shape[-1])
    keep = torch.ones(x.shape[-2:], dtype=torch.bool)
    if lower >= 0:
        keep &= row - column <= lower
    if upper >= 0:
        keep &= column - row <= upper
    return torch.where(keep, x, torch.zeros((), dtype=x.dtype))


@operation("pad")
def _pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Result:
    """``pad`` holds (before, after) of the last dimensions in their order, where torch begins
    with the last."""
    one_of("padding mode", mode, ("constant", "reflect", "replicate"))
    if len(pad) % 2 or len(pad) > 2 * x.dim() or min(pad, default=0) < 0:
        raise UnsupportedError(
            f"got the padding {pad} of {x.dim()} dimensions, needed pairs that are not negative"
        )
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    if mode == "constant":
        backwards = [amount for pair in reversed(pairs) for amount in pair]
        value = constant_val if x.dtype.is_floating_point else int(constant_val)
        return functional.pad(x, backwards, value=value)
    for dimension, (before, after) in enumerate(pairs, start=x.dim() - len(pairs)):
        if before or after:
            x = x.index_select(dimension, _edge(x.shape[dimension], before, after, mode))
    return x


def _edge(size: int, before: int, after: int, mode: str) -> Tensor:
    """Indices that repeat a dimension beyond its ends; "reflect" leaves the edge itself out."""
    limit = size - 1 if mode == "reflect" else size
    if max(before, after) > limit:
        raise UnsupportedError(
            f"got {mode} padding by {max(before, after)} of {size}, needed at most {limit}"
        )
    index = torch.arange(-before, size + after)
    if mode == "replicate":
        return index.clamp(0, size - 1)
    index = index.abs()
    return torch.minimum(index, 2 * (size - 1) - index)
