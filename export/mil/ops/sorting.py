"""Operations that order values or look for them.

They follow coremltools' MIL definitions ``{iOS15,iOS16,iOS17}/tensor_operation.py``. Equal values
keep their order; the definitions leave that open. ``non_maximum_suppression`` is missing: they do
not say how its results are padded.
"""

from __future__ import annotations

import torch

from dfnet.errors import UnsupportedError
from export.mil.registry import Result, Tensor, one_of, operation


@operation("argsort")
def _argsort(x: Tensor, axis: int = -1, ascending: bool = False) -> Result:
    return torch.argsort(x, dim=axis, descending=not ascending, stable=True)


@operation("topk")
def _topk(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str | None = None,
) -> Result:
    """The largest values in falling order, or the smallest in rising order; all for k = -1.
    Without ``sort`` any order is right, so this one too."""
    if output_indices_dtype is not None:
        one_of("type of indices", output_indices_dtype, ("int32", "uint16"))
        if not return_indices:
            raise UnsupportedError("got a type of indices, needed none without indices")
    size = x.shape[axis]
    count = size if k == -1 else k
    if not 0 <= count <= size:
        raise UnsupportedError(f"got k = {k}, needed -1 or at most {size}")
    ordered, indices = torch.sort(x, dim=axis, descending=not ascending, stable=True)
    values = ordered.narrow(axis, 0, count)
    return (values, indices.narrow(axis, 0, count)) if return_indices else values


@operation("non_zero")
def _non_zero(x: Tensor) -> Result:
    return torch.nonzero(x).to(torch.int32)
