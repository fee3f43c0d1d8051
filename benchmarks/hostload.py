"""How much of this machine other programs use while something is being timed."""

from __future__ import annotations

import os
import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
_BUSY = (1, 2, 3, 6, 7, 8)
"""Fields of a /proc/stat line that are not idle: user, nice, system, irq, softirq, steal
(proc(5)); guest time is already part of user."""


def available_cpus() -> tuple[int, ...]:
    """The CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def default_threads() -> int:
    """As many threads as there are CPUs, at most four: the big cores of a phone."""
    return min(4, len(available_cpus()))


@dataclass(frozen=True)
class LoadMark:
    """Busy and own CPU seconds at one moment; ``busy_s`` is None where /proc is missing."""

    wall_s: float
    own_s: float
    busy_s: float | None

    @classmethod
    def now(cls) -> LoadMark:
        own = os.times()
        return cls(time.monotonic(), own.user + own.system, _busy_seconds())

    def other_cpus(self, end: LoadMark) -> float:
        """Average number of this process's CPUs that other programs kept busy until ``end``.

        Falls back to the one-minute load average, which includes our own threads, where the
        system does not tell.
        """
        wall = end.wall_s - self.wall_s
        if self.busy_s is None or end.busy_s is None or wall <= 0:
            return os.getloadavg()[0]
        own = end.own_s - self.own_s
        return max(0.0, (end.busy_s - self.busy_s - own) / wall)


def _busy_seconds() -> float | None:
    try:
        lines = _STAT.read_text().splitlines()
    except OSError:
        return None
    ours = {f"cpu{number}" for number in available_cpus()}
    rows = [line.split() for line in lines]
    ticks = sum(int(row[i]) for row in rows if row and row[0] in ours for i in _BUSY)
    return ticks / float(os.sysconf("SC_CLK_TCK"))


def processor() -> str:
    """The model of this machine's processor, as Linux or Python tells it."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(errors="replace") if path.is_file() else ""
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()
