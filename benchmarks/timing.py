"""Timed repeats of one artifact, their statistics, and whether they can be trusted."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from benchmarks.hostload import available_cpus
from dfnet.errors import MetricError
from dfnet.runner import Device

SPREAD_LIMIT = 0.10
"""Repeats whose medians differ by more than this part of their median are INVALID: twice the 5 %
that counts as a regression."""

CV_LIMIT = 0.25
"""Samples whose standard deviation is over this part of their mean are INVALID."""

OTHERS_LIMIT = 0.25
"""Other programs may use at most this part of the CPUs while timing."""


@dataclass(frozen=True)
class Repeat:
    """One repeat: load, first inference, warm-up and timed samples kept apart, in milliseconds.

    ``other_cpus`` is the average number of CPUs that other programs kept busy meanwhile, None
    where nobody counted. ``samples_ms`` is empty when the first inference was too slow to go on.
    """

    device: Device
    accelerator: str
    load_ms: float
    first_ms: float
    warmup_ms: tuple[float, ...]
    samples_ms: tuple[float, ...]
    other_cpus: float | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            **{
                **data,
                "device": Device(**data["device"]),
                "warmup_ms": tuple(data["warmup_ms"]),
                "samples_ms": tuple(data["samples_ms"]),
            }
        )


@dataclass(frozen=True)
class LatencyResult:
    """Latency of one artifact on one device. The headline is the median of repeats' medians.

    ``latency_ratio`` is this headline over that of the fp32 file of the same runtime, backend and
    resolution, measured interleaved in the same run; None without one. ``threads`` is None where
    the runtime chooses. ``disturbances`` are reasons to distrust the samples that they do not show
    themselves, such as a hot phone.
    """

    artifact_sha256: str
    device: Device
    protocol: str
    threads: int | None
    repeats: tuple[Repeat, ...]
    latency_ratio: float | None = None
    budget_ms: float | None = None
    disturbances: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.repeats:
            raise MetricError(
                f"Latency of {self.artifact_sha256[:12]}: got no repeats, needed at least one."
            )

    @property
    def samples_ms(self) -> tuple[float, ...]:
        return tuple(sample for repeat in self.repeats for sample in repeat.samples_ms)

    @property
    def median_ms(self) -> float | None:
        """Median of the repeats' medians; None when nothing was timed."""
        medians = self._medians()
        return statistics.median(medians) if medians else None

    @property
    def passed(self) -> bool | None:
        """Whether a phone keeps its budget; None unless it is a phone with a budget."""
        if self.device.kind != "device" or self.budget_ms is None or self.median_ms is None:
            return None
        return self.median_ms <= self.budget_ms

    def against(self, baseline: LatencyResult) -> LatencyResult:
        """This result with its ratio over ``baseline``, which was timed in the same run."""
        mine, theirs = self.median_ms, baseline.median_ms
        if mine is None or theirs is None:
            return self
        return replace(self, latency_ratio=mine / theirs)

    def invalid_reasons(self) -> tuple[str, ...]:
        """Why the milliseconds cannot be trusted; empty when they can."""
        if not self.samples_ms:
            return (f"too slow: the first inference took {self.repeats[0].first_ms / 1e3:.1f} s",)
        figures = self.statistics()
        busy = max(repeat.other_cpus or 0.0 for repeat in self.repeats)
        cpus = len(available_cpus())
        reasons = list(self.disturbances)
        if figures["spread"] > SPREAD_LIMIT:
            reasons.append(f"repeats spread by {figures['spread']:.0%}")
        if figures["cv"] > CV_LIMIT:
            reasons.append(f"samples vary by {figures['cv']:.0%}")
        if self.device.kind == "host" and busy > OTHERS_LIMIT * cpus:
            reasons.append(f"other programs used {busy:.1f} of {cpus} CPUs")
        return tuple(reasons)

    @property
    def validity(self) -> str:
        """``VALID`` or ``INVALID (reasons)``."""
        reasons = self.invalid_reasons()
        return f"INVALID ({'; '.join(reasons)})" if reasons else "VALID"

    def statistics(self) -> dict[str, float]:
        """Figures over all samples; ``spread`` is over the repeats' medians. Empty if untimed."""
        samples = np.array(self.samples_ms)
        if not samples.size:
            return {}
        medians = self._medians()
        headline = statistics.median(medians)
        p5, p90, p95 = (float(p) for p in np.percentile(samples, (5, 90, 95)))
        std = float(samples.std())
        return {
            "median_ms": headline,
            "min_ms": float(samples.min()),
            "p5_ms": p5,
            "p90_ms": p90,
            "p95_ms": p95,
            "std_ms": std,
            "cv": std / float(samples.mean()),
            "spread": (max(medians) - min(medians)) / headline,
        }

    def _medians(self) -> list[float]:
        return [statistics.median(r.samples_ms) for r in self.repeats if r.samples_ms]

    def to_json(self) -> dict[str, Any]:
        """Everything measured, raw samples included, and the statistics for readers."""
        return {
            **asdict(self),
            "validity": self.validity,
            "passed": self.passed,
            "statistics": self.statistics(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            artifact_sha256=data["artifact_sha256"],
            device=Device(**data["device"]),
            protocol=data["protocol"],
            threads=data["threads"],
            repeats=tuple(Repeat.from_json(repeat) for repeat in data["repeats"]),
            latency_ratio=data["latency_ratio"],
            budget_ms=data["budget_ms"],
            disturbances=tuple(data.get("disturbances", ())),
        )
