"""Which of the exported files native runners take, and which an emulated device has time for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from android_harness.job import Runtime
from dfnet.artifact import Artifact
from dfnet.errors import UnsupportedError
from dfnet.profiles import Precision

SMALL_PIXELS = 64 * 64
"""Emulated, float arithmetic takes seconds per inference at this size, minutes at a preview's."""

_MOST_PIXELS = 1 << 20
"""int8 arithmetic takes a third of that."""


def runnable(
    artifacts: Sequence[Artifact], runner_binary: Path | None, *, fp16: bool
) -> list[Artifact]:
    """Those that a native runner takes, which runs no bundles; ``fp16`` asks for LiteRT's float16
    arithmetic.

    Raises:
        UnsupportedError: there are none, or the user's runner or ``fp16`` does not fit them all.
    """
    runtimes = get_args(Runtime)
    found = [
        one
        for one in artifacts
        if one.manifest.runtime in runtimes
        and one.manifest.platform == "android"
        and one.manifest.entry is None
    ]
    kinds = {one.manifest.runtime for one in found}
    if not found:
        raise UnsupportedError(
            f"Files for devices: got {len(artifacts)}, none for Android of "
            f"{' or '.join(runtimes)} at one resolution, which native runners run. Choose others."
        )
    if runner_binary is not None and len(kinds) != 1:
        raise UnsupportedError(
            f"Runner {runner_binary}: got files of {' and '.join(sorted(kinds))}, needed one "
            "runtime. Choose it with --runtime."
        )
    if fp16 and kinds != {"litert"}:
        raise UnsupportedError(
            "XNNPACK in float16: got files of ExecuTorch, whose runner has no such flag, needed "
            "LiteRT's alone. Add --runtime litert."
        )
    return found


def emulable(artifacts: Sequence[Artifact], *, say: Callable[[str], None]) -> list[Artifact]:
    """Those that an emulated processor gets through in seconds; ``say`` is told of the others.

    Raises:
        UnsupportedError: there are none.
    """
    fit = [one for one in artifacts if _is_quick(one)]
    if not fit:
        raise UnsupportedError(
            f"Files for an emulated device: got {len(artifacts)}, none in int8 or of 64x64 pixels. "
            "Export some: make export-android RESOLUTION=64x64"
        )
    rest = [one.manifest for one in artifacts if one not in fit]
    left = {f"{manifest.recipe['name']} {manifest.resolution}" for manifest in rest}
    if left:
        say(f"Left out, too slow to emulate unless chosen: {', '.join(sorted(left))}")
    return fit


def _is_quick(artifact: Artifact) -> bool:
    is_int8 = artifact.manifest.precision is Precision.W8A8
    return is_small(artifact) or (is_int8 and _pixels(artifact) <= _MOST_PIXELS)


def is_small(artifact: Artifact) -> bool:
    """Whether even float arithmetic can be emulated."""
    return _pixels(artifact) <= SMALL_PIXELS


def _pixels(artifact: Artifact) -> int:
    resolution = artifact.manifest.resolution
    return resolution.height * resolution.width
