"""Compressed weights: operations that decompress constants.

Follows coremltools' MIL definitions ``iOS16/constexpr_ops.py`` and ``iOS18/compression.py``. Two
operations have the same name in both and are told apart by ``shape``: iOS 16 packs indices and
masks into bytes, least significant bit first, and gives the shape beside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from dfnet.errors import ArtifactError, UnsupportedError
from export.mil.dtypes import dtype_named, unpack
from export.mil.ops.quantization import affine
from export.mil.registry import Ints, Tensor, one_of, operation

_PALETTE_BITS = {2: 1, 4: 2, 16: 4, 64: 6, 256: 8}
"""Sizes of the tables of iOS 16, and the bits of an index into them."""


@operation("constexpr_affine_dequantize")
def _affine_dequantize(
    quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int
) -> Tensor:
    return affine(quantized_data, scale, zero_point, axis)


@operation("constexpr_cast")
def _cast(source_val: Tensor, output_dtype: str) -> Tensor:
    one_of("output_dtype", output_dtype, ("fp32",))
    return source_val


@operation("constexpr_blockwise_shift_scale")
def _blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    return _shift_scale(data, scale, offset)


def _shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None) -> Tensor:
    values = data.to(scale.dtype)
    if offset is not None:
        values = values - _per_element(offset.to(scale.dtype), data.shape)
    return values * _per_element(scale, data.shape)


def _per_element(blocks: Tensor, shape: Sequence[int]) -> Tensor:
    """One number for each block, repeated so that it broadcasts over a tensor of ``shape``."""
    if blocks.dim() != len(shape) or any(
        size % count for size, count in zip(shape, blocks.shape, strict=True)
    ):
        raise ArtifactError(
            f"got blocks of shape {tuple(blocks.shape)} for values of shape {tuple(shape)}, needed "
            "the same rank and divisors of its sizes"
        )
    for dim, (size, count) in enumerate(zip(shape, blocks.shape, strict=True)):
        if count not in (1, size):
            blocks = blocks.repeat_interleave(size // count, dim)
    return blocks


@operation("constexpr_lut_to_dense")
def _lut_to_dense(
    indices: Tensor, lut: Tensor, vector_axis: int | None = None, shape: Ints | None = None
) -> Tensor:
    if shape is None:
        return _look_up(indices, lut, vector_axis)
    if lut.dim() != 1 or lut.numel() not in _PALETTE_BITS or vector_axis is not None:
        raise UnsupportedError(
            f"got a table of shape {tuple(lut.shape)} and vector_axis {vector_axis} with packed "
            f"indices, needed one of {', '.join(map(str, _PALETTE_BITS))} values and no axis"
        )
    return lut[_unpacked(indices, _PALETTE_BITS[lut.numel()], shape).long()]


def _look_up(indices: Tensor, lut: Tensor, vector_axis: int | None) -> Tensor:
    """``lut`` is [*blocks, entries, vector]: one table for each block of ``indices``. An index
    becomes a vector, laid along ``vector_axis``."""
    *blocks, entries, vector = lut.shape
    if indices.numel() and int(indices.max()) >= entries:
        raise ArtifactError(f"got the index {int(indices.max())}, needed less than {entries}")
    table = torch.arange(math.prod(blocks)).reshape(blocks)
    found = lut.reshape(-1, vector)[_per_element(table, indices.shape) * entries + indices.long()]
    if vector == 1:
        return found.squeeze(-1)
    axis = _vector_axis(vector_axis, indices.dim())
    return found.movedim(-1, axis + 1).flatten(axis, axis + 1)


def _vector_axis(vector_axis: int | None, rank: int) -> int:
    if vector_axis is None or not -rank <= vector_axis < rank:
        raise UnsupportedError(
            f"got the vector_axis {vector_axis} for a table of vectors, needed one of the {rank} "
            "dimensions"
        )
    return vector_axis % rank


@operation("constexpr_sparse_to_dense")
def _sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Ints | None = None) -> Tensor:
    return _fill(nonzero_data, mask if shape is None else _unpacked(mask, 1, shape))


def _fill(values: Tensor, mask: Tensor) -> Tensor:
    """A tensor of zeros with ``values`` where ``mask`` is set, row by row."""
    chosen = mask != 0
    count = int(chosen.sum())
    if values.numel() != count:
        raise ArtifactError(f"got {values.numel()} values for a mask of {count}, needed as many")
    dense = torch.zeros(mask.shape, dtype=values.dtype)
    dense[chosen] = values.reshape(-1)
    return dense


@operation("constexpr_lut_to_sparse")
def _lut_to_sparse(
    indices_mask: Tensor,
    indices_nonzero_data: Tensor,
    lut: Tensor,
    vector_axis: int | None = None,
) -> tuple[Tensor, Tensor]:
    dense = _look_up(_fill(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask, vector = indices_mask, lut.shape[-1]
    if vector > 1:
        mask = mask.repeat_interleave(vector, _vector_axis(vector_axis, mask.dim()))
    return mask, dense[mask != 0]


@operation("constexpr_sparse_blockwise_shift_scale")
def _sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    dense = _shift_scale(_fill(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def _unpacked(packed: Tensor, bits: int, shape: Ints) -> Tensor:
    values = unpack(packed.numpy().tobytes(), dtype_named(f"uint{bits}"), math.prod(shape))
    return torch.from_numpy(values.copy()).reshape(shape)
