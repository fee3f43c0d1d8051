"""A capture as large as a phone's photo, laid out from the held-out captures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from benchmarks.mosaic import fill_frame
from dfnet.artifact import staged_folder
from dfnet.capture import Capture, Image
from dfnet.errors import CaptureError
from dfnet.profiles import Resolution
from dfnet.signature import INPUTS

_TARGET = "defocus_target"


def write_photo_capture(
    captures: Sequence[Capture], target: str, size: Resolution, folder: Path
) -> None:
    """Writes the six inputs at ``size`` to ``folder``, which must be new: the same every time.

    Raises:
        CaptureError: no capture has ``target`` with a truth, or ``folder`` exists.
        ArtifactError: ``folder`` cannot be written.
    """
    if folder.exists():
        raise CaptureError(f"Photo capture {folder}: exists, needed a new folder. Choose another.")
    names = sorted({t.name for capture in captures for t in capture.targets})
    chosen = [
        replace(capture, targets=tuple(t for t in capture.targets if t.name == target))
        for capture in captures
    ]
    if not any(capture.targets for capture in chosen):
        raise CaptureError(f"Target {target!r} is unknown. Choose one of {', '.join(names)}.")
    mosaic = fill_frame(chosen, size)[0]
    with staged_folder(folder) as scratch:
        for spec in INPUTS:
            name = f"target-{target}" if spec.name == _TARGET else spec.name
            _save(mosaic.feed[spec.name], scratch / f"{name}.png")


def _save(image: Image, path: Path) -> None:
    codes = np.rint(image[0] * np.float32(255)).astype(np.uint8).transpose(1, 2, 0)
    pixels = codes if codes.shape[2] == 3 else codes[:, :, 0]
    Pillow.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG", compress_level=1)
