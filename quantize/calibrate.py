"""Calibration: captures run through a prepared graph, so that its observers see real ranges."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torchao.quantization.pt2e import ObserverBase

from dfnet.capture import Capture, Target, TargetKind
from dfnet.captureset import CaptureSet
from dfnet.defocus import targets_of_every_kind
from dfnet.errors import CalibrationError
from dfnet.signature import Feed
from dfnet.tensors import feed_tensors
from quantize.captures import require_calibration_captures
from quantize.program import Calibration

Progress = Callable[[int, int], None]
"""Called with (feeds done, feeds in all) after every calibration feed."""

_ALWAYS = (TargetKind.ALL_IN_FOCUS, TargetKind.REFOCUS)
_IN_TURN = tuple(kind for kind in TargetKind if kind not in _ALWAYS)


def calibrate(
    prepared: nn.Module, captures: CaptureSet, *, progress: Progress | None = None
) -> Calibration:
    """Runs ``captures`` through ``prepared``, a graph with observers, at their own size.

    Every capture is asked for all-in-focus, a refocus, and one of the other target kinds in turn.

    Raises:
        CalibrationError: another split than calibration; fewer captures than needed; a target
            kind that no capture offers; an input that never changes; a value that is not finite.
    """
    require_calibration_captures(captures)
    coverage = _Coverage()
    feeds = 3 * len(captures)
    with _only_finite(prepared), torch.no_grad():
        for done, (capture, target) in enumerate(calibration_feeds(captures), start=1):
            feed = capture.feed(target)
            coverage.add(capture, target, feed)
            prepared(*feed_tensors(feed))
            if progress is not None:
                progress(done, feeds)
    return coverage.summary(captures)


def calibration_feeds(captures: CaptureSet) -> Iterator[tuple[Capture, Target]]:
    """Three pairs per capture: all-in-focus, a refocus, and one of the other kinds in turn.

    Raises:
        CalibrationError: a target kind that a capture does not offer.
    """
    for index, capture in enumerate(captures):
        targets = targets_of_every_kind(capture)
        for kind in (*_ALWAYS, _IN_TURN[index % len(_IN_TURN)]):
            of_kind = [target for target in targets if target.kind is kind]
            if not of_kind:
                raise CalibrationError(
                    f"Calibration capture {capture.id}: got no {kind} target, needed targets of "
                    "every kind. Give captures with depth and optics."
                )
            yield capture, of_kind[index % len(of_kind)]


@contextmanager
def _only_finite(prepared: nn.Module) -> Iterator[None]:
    """Within it, a value that is not finite at any observer raises CalibrationError."""
    handles = [
        module.register_forward_pre_hook(_finite_check(name))
        for name, module in prepared.named_modules()
        if isinstance(module, ObserverBase)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _finite_check(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def check(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not torch.isfinite(inputs[0]).all():
            raise CalibrationError(
                f"Calibration: got values that are not finite at {name}, needed finite ones "
                "everywhere. Check the network's weights."
            )

    return check


class _Coverage:
    """Collects what the calibration feeds held."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        self._feeds: list[tuple[str, str, str]] = []
        self._values: dict[str, list[tuple[float, float, float]]] = {}

    def add(self, capture: Capture, target: Target, feed: Feed) -> None:
        self._kinds[target.kind] += 1
        self._feeds.append(
            (capture.id, target.name, hashlib.sha256(target.defocus.tobytes()).hexdigest())
        )
        for name, array in feed.items():
            if not np.isfinite(array).all():
                raise CalibrationError(
                    f"Calibration capture {capture.id}: got values that are not finite in "
                    f"{name!r}, needed finite ones. Render the capture again."
                )
            row = (float(array.min()), float(array.max()), float(array.mean(dtype=np.float64)))
            self._values.setdefault(name, []).append(row)

    def summary(self, captures: CaptureSet) -> Calibration:
        coverage = {name: _spread(name, rows) for name, rows in self._values.items()}
        identity = json.dumps([captures.sha256, self._feeds])
        return Calibration(
            sha256=hashlib.sha256(identity.encode()).hexdigest(),
            captures=len(captures),
            feeds=len(self._feeds),
            coverage=coverage,
            target_kinds={str(kind): self._kinds[kind] for kind in TargetKind},
        )


def _spread(name: str, rows: list[tuple[float, float, float]]) -> dict[str, float]:
    minima, maxima, means = zip(*rows, strict=True)
    if min(minima) == max(maxima):
        raise CalibrationError(
            f"Calibration input {name!r}: got {min(minima)} everywhere, needed values that vary, "
            "or the network is not exercised. Check the captures."
        )
    return {
        "minimum": min(minima),
        "maximum": max(maxima),
        "mean": sum(means) / len(means),
    }
