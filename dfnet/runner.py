"""Running a network, wherever it is: the Runner protocol, and timings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from dfnet.errors import UnsupportedError
from dfnet.signature import Feed

Output = dict[str, npt.NDArray[np.float32]]
"""Outputs by name: float32 NCHW; not clipped."""

DeviceKind = Literal["host", "evaluator", "emulator", "simulator", "device"]


@dataclass(frozen=True)
class Device:
    """Where a runner runs. Only ``kind == "device"`` can give a phone latency."""

    kind: DeviceKind
    name: str


@dataclass(frozen=True)
class Timings:
    """Wall times of one loaded network, in milliseconds; every sample is kept.

    ``accelerator`` names what actually ran, not what was asked for. ``peak_memory_mb`` is None
    when it was not measured (memory is measured in a pass of its own).
    """

    load_ms: float
    first_ms: float
    samples_ms: tuple[float, ...]
    accelerator: str
    peak_memory_mb: float | None = None

    def __post_init__(self) -> None:
        if not self.samples_ms:
            raise UnsupportedError("Timings: got no samples, needed at least one timed run.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Runner(Protocol):
    """A loaded network. Use it as a context manager; it frees the network on exit."""

    @property
    def device(self) -> Device: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def infer(self, feed: Feed) -> Output:
        """Runs once. ``feed`` and the result are float32 NCHW whatever the file's own layout."""

    def time(self, feed: Feed, *, warmup: int, runs: int) -> Timings:
        """Times ``runs`` inferences after ``warmup`` untimed ones, looping where the model runs."""


def time_calls(
    call: Callable[[], object], *, warmup: int, runs: int, load_ms: float, accelerator: str
) -> Timings:
    """Times a host call; the first call is reported apart from warm-up and samples.

    Raises:
        UnsupportedError: ``runs`` is below 1 or ``warmup`` below 0.
    """
    if runs < 1 or warmup < 0:
        raise UnsupportedError(
            f"Timing: got {runs} runs after {warmup} warm-ups, needed at least 1 run and no "
            "negative warm-up count."
        )
    first_ms = _call_ms(call)
    for _ in range(warmup):
        call()
    samples = tuple(_call_ms(call) for _ in range(runs))
    return Timings(load_ms, first_ms, samples, accelerator)


def _call_ms(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6
