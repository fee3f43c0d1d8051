"""Memory of a run: what it is expected to need, and what it took."""

from __future__ import annotations

import ctypes
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from dfnet.manifest import Manifest
from dfnet.profiles import Precision, Resolution

_STATUS = Path("/proc/self/status")
_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of glibc's malloc.h; setting it also stops it from growing."""


@dataclass(frozen=True)
class Need:
    """Measured peak of a whole run: ``base_mb`` and ``bytes_per_pixel`` of a tile."""

    base_mb: float
    bytes_per_pixel: float


_NEEDS: dict[tuple[str, bool], Need] = {
    ("litert", False): Need(64, 675),
    ("litert", True): Need(63, 634),
    ("executorch", False): Need(387, 703),
    ("executorch", True): Need(386, 669),
    ("onnx", False): Need(284, 672),
    ("onnx", True): Need(281, 392),
}
"""(runtime, whether int8) -> need of the reference network; docs/photos.md says how measured."""

_UNKNOWN = Need(600, 4000)
"""For what was not measured, the evaluator included: more than any of the runtimes took."""


def expected_mb(manifest: Manifest, tile: Resolution) -> float:
    """Peak memory in MB (10^6 bytes) that a run with tiles of this size is expected to take."""
    need = _NEEDS.get((manifest.runtime, manifest.precision is Precision.W8A8), _UNKNOWN)
    return need.base_mb + need.bytes_per_pixel * tile.height * tile.width / 1e6


def return_freed_memory() -> None:
    """Has the C library give arrays over 1 MB back to the system when they are freed.

    glibc keeps ever larger ones for itself once some were freed, 50 MB in a run over tiles. Other
    systems' libraries have no such call.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 20)


def peak_mb() -> float:
    """Most memory this process has held so far, in MB (10^6 bytes)."""
    if _STATUS.exists():
        # Not getrusage: on Linux a child starts with the peak of the process that started it.
        (line,) = (x for x in _STATUS.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
