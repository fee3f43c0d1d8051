"""When a program's results are needed for the last time, so that they can be freed."""

from __future__ import annotations

from collections.abc import Iterator

from export.mil.program import Block, Operation


def last_uses(block: Block) -> dict[int, tuple[str, ...]]:
    """Names by the index of the operation that reads them last; outputs are never dropped."""
    last = {
        name: index
        for index, operation in enumerate(block.operations)
        for name in _names(operation)
    }
    found: dict[int, list[str]] = {}
    for name, index in last.items():
        if name not in block.outputs:
            found.setdefault(index, []).append(name)
    return {index: tuple(names) for index, names in found.items()}


def _names(operation: Operation) -> Iterator[str]:
    for bound in operation.inputs.values():
        yield from (name for name in bound if isinstance(name, str))
    for block in operation.blocks:
        yield from block.outputs
        for inner in block.operations:
            yield from _names(inner)
