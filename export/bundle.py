"""One file for several resolutions, with the weights stored once.

Every resolution is lowered to a file of its own first, by the same way as ever; merging them moves
bytes and computes nothing. So an entry point of the bundle is the very graph of the single file,
and the sizes of both are known.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dfnet.artifact import bytes_of
from dfnet.manifest import EntryPoint
from dfnet.profiles import Resolution
from export.runtime import Lowered, Runtime
from quantize.program import Program


@dataclass(frozen=True)
class _Single:
    """One resolution's own file, before merging."""

    resolution: Resolution
    lowered: Lowered
    path: Path

    @property
    def entry(self) -> str:
        return entry_name(self.resolution)


def entry_name(resolution: Resolution) -> str:
    """What a bundle's signature, method or function for ``resolution`` is called."""
    return f"refocus_{resolution}"


def lower_bundle(
    runtime: Runtime,
    program: Program,
    backend: str,
    resolutions: Sequence[Resolution],
    folder: Path,
) -> Lowered:
    """Writes ``program`` at all ``resolutions`` as one file into ``folder``.

    Raises:
        UnsupportedError: as ``Runtime.lower`` and ``Runtime.merge``.
    """
    singles = [_lower(runtime, program, backend, one, folder) for one in resolutions]
    first = singles[0].lowered
    target = folder / first.file
    runtime.merge({single.entry: single.path for single in singles}, target)
    sizes = _sizes(runtime, singles, target)
    for single in singles:
        shutil.rmtree(single.path.parent)
    return replace(
        first,
        notes=tuple(dict.fromkeys(note for one in singles for note in one.lowered.notes)),
        facts={
            "bundle": sizes,
            "entry_points": {single.entry: single.lowered.facts for single in singles},
        },
        entry_points=tuple(map(_entry_point, singles)),
    )


def _lower(
    runtime: Runtime, program: Program, backend: str, resolution: Resolution, folder: Path
) -> _Single:
    own = folder / f"single-{resolution}"
    own.mkdir()
    lowered = runtime.lower(program, backend=backend, resolution=resolution, folder=own)
    return _Single(resolution, lowered, own / lowered.file)


def _entry_point(single: _Single) -> EntryPoint:
    lowered = single.lowered
    return EntryPoint(
        single.entry, single.resolution, lowered.inputs, lowered.outputs, lowered.delegation
    )


def _sizes(runtime: Runtime, singles: Sequence[_Single], target: Path) -> dict[str, Any]:
    """What one file saves: ``ratio`` is over the largest single file. ``constant_bytes`` near
    those of one single file are the proof that weights are stored once."""
    files = {str(single.resolution): bytes_of(single.path) for single in singles}
    constants = {str(one.resolution): runtime.constant_bytes(one.path) for one in singles}
    return {
        "bytes": bytes_of(target),
        "single_bytes": files,
        "ratio": bytes_of(target) / max(files.values()),
        "constant_bytes": runtime.constant_bytes(target),
        "single_constant_bytes": constants,
    }
