"""What judges artifacts, and where results are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dfnet.captureset import CaptureSet
from dfnet.checkpoint import Checkpoint


@dataclass(frozen=True)
class Request:
    """Captures, references and places of one command.

    ``checkpoint`` and ``calibration`` are called only when a reference has to be rebuilt.
    ``folder`` holds results/ and references/; ``log`` takes what the SDKs print.
    """

    folder: Path
    log: Path
    captures: CaptureSet
    checkpoint: Callable[[], Checkpoint]
    calibration: Callable[[], CaptureSet]
    threads: int

    @property
    def results(self) -> Path:
        return self.folder / "results"
