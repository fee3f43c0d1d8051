"""Several .pte files of one network as one, a method each, equal constants stored once."""

from __future__ import annotations

from collections.abc import Mapping

from executorch.exir._serialize._program import (
    PTEFile,
    deserialize_pte_binary,
    serialize_pte_binary,
)
from executorch.exir.schema import Tensor

from dfnet.errors import UnsupportedError


def merge_programs(programs: Mapping[str, bytes]) -> bytes:
    """One program with the methods named by the keys; each program has one method.

    XNNPACK's constants are stored under the hash of their contents, so equal ones are one.

    Raises:
        UnsupportedError: a program holds constants or state outside of its delegated parts.
    """
    merged: PTEFile | None = None
    for name, buffer in programs.items():
        file = deserialize_pte_binary(buffer)
        _require_delegated(name, file)
        file.program.execution_plan[0].name = name
        merged = file if merged is None else _append(merged, file)
    if merged is None:
        raise UnsupportedError("ExecuTorch bundle: got no programs, needed at least one.")
    return bytes(serialize_pte_binary(merged, extract_delegate_segments=True))


def constant_bytes(buffer: bytes) -> int:
    """Bytes of the constants of a program's delegated parts."""
    named = deserialize_pte_binary(buffer).named_data
    return sum(map(len, named.buffers)) if named else 0


def _require_delegated(name: str, file: PTEFile) -> None:
    plan = file.program.execution_plan[0]
    tensors = [v.val for v in plan.values if isinstance(v.val, Tensor)]
    if file.mutable_data or any(tensor.data_buffer_idx for tensor in tensors):
        raise UnsupportedError(
            f"ExecuTorch bundle, {name}: got constants outside of delegated parts, needed all of "
            "them in XNNPACK. Export without --bundle."
        )


def _append(merged: PTEFile, file: PTEFile) -> PTEFile:
    (plan,) = file.program.execution_plan
    parts = merged.program.backend_delegate_data
    for delegate in plan.delegates:
        delegate.processed.index += len(parts)
    parts.extend(file.program.backend_delegate_data)
    merged.program.execution_plan.append(plan)
    if file.named_data and merged.named_data:
        mine, theirs = merged.named_data, file.named_data
        for key, entry in theirs.pte_data.items():
            if key not in mine.pte_data:
                mine.buffers.append(theirs.buffers[entry.buffer_index])
                entry.buffer_index = len(mine.buffers) - 1
                mine.pte_data[key] = entry
    return merged
