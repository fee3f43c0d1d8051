"""The table of goldens; see ``export.mil.golden``."""

from __future__ import annotations

from collections.abc import Sequence

from dfnet.errors import UnsupportedError
from export.mil import golden_layout, golden_numbers, golden_sampling, golden_weights
from export.mil.golden import Golden

__all__ = ["GOLDENS", "find_goldens"]

GOLDENS: tuple[Golden, ...] = (
    *golden_layout.GOLDENS,
    *golden_sampling.GOLDENS,
    *golden_numbers.GOLDENS,
    *golden_weights.GOLDENS,
)


def find_goldens(names: Sequence[str] = ()) -> tuple[Golden, ...]:
    """The goldens called ``names``, or all of them.

    Raises:
        UnsupportedError: there is no such golden; lists those there are.
    """
    known = {golden.name: golden for golden in GOLDENS}
    if unknown := [name for name in names if name not in known]:
        raise UnsupportedError(
            f"Goldens: got {', '.join(unknown)}, needed one of {', '.join(known)}."
        )
    return tuple(known[name] for name in names) or GOLDENS
