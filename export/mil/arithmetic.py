"""How a program may legally be computed, and rounding to the types it declares.

A declared type is the *minimum* precision: Core ML may compute a float16 program in float32
(coremltools guide, "Typed Execution"). What accelerators do between is not documented, so a
package is judged in several executions and the worst one counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import torch

from export.mil.dtypes import DType

PARTIAL_SUM = 16
"""Products that ``FLOAT16_SUMS`` adds up before it rounds: a choice of ours. Hardware sums in
groups of unpublished size; fewer products per group lose more."""


class Arithmetic(StrEnum):
    """One way to execute a program; all are alike for a program without float16."""

    DECLARED = "declared"
    """Sums in float32; every result is rounded once to the type the program declares."""

    FLOAT32 = "float32"
    """Results stay float32 where the program says float16; only stored constants are rounded."""

    FLOAT16_SUMS = "float16-sums"
    """As ``DECLARED``, and float16 convolutions and matrix products add partial sums of
    ``PARTIAL_SUM`` products in float16."""


def round_to(value: torch.Tensor, dtype: DType) -> torch.Tensor:
    """``value`` rounded to ``dtype``, in its carrier. fp16 rounds to nearest even, as IEEE 754
    says, and beyond 65504 to infinity."""
    if dtype.name == "fp16":
        return value.to(torch.float16).to(torch.float32)
    return value.to(dtype.carrier)


def add_in_float16(partial_sums: Iterable[torch.Tensor]) -> torch.Tensor:
    """The sum of ``partial_sums``, in order, each and every intermediate rounded to float16.
    An iterator's are added as they come, so that one at a time is in memory."""
    rounded = (partial.to(torch.float16) for partial in partial_sums)
    total = next(rounded)
    for partial in rounded:
        total += partial
    return total.to(torch.float32)
