"""The capture that the demo shows: a rendered scene that fills the file's frame."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from dfnet.capture import Capture, Split
from dfnet.capturemanifest import MANIFEST_NAME, Provenance
from dfnet.captureset import CaptureItem, open_captures, write_captures
from dfnet.console import Progress
from dfnet.profiles import Resolution
from dfnet.scenes import SceneRenderer, load_textures

_SEED = 900
_GRID_FRACTION = 0.25
_TEXTURES = Path("data/textures/held_out")
_LICENCE = "rendered from the tiles of data/textures; see its ATTRIBUTION.md, file by file"

SCENES = Path("artifacts/demo")
"""Where rendered scenes are kept; rendering one takes half a minute."""


def kept_demo_capture(root: Path, frame: Resolution) -> Capture:
    """``demo_capture``, from ``root`` when it was rendered before.

    Raises:
        CaptureError: the photographs are missing, or what is kept was altered.
        ArtifactError: ``root`` cannot be written.
    """
    folder = root / f"{frame}-{_SEED}"
    if not (folder / MANIFEST_NAME).is_file():
        capture = demo_capture(frame)
        sources = tuple(sorted({texture.source for texture in load_textures(_TEXTURES)}))
        item = CaptureItem(capture, Provenance(sources, _SEED, _LICENCE))
        write_captures(folder, Split.HELD_OUT, [item], licence=_LICENCE)
    return open_captures(folder).load("demo")


def demo_capture(frame: Resolution) -> Capture:
    """One scene of photographs that the network was not trained on, the same every time.

    Raises:
        CaptureError: the photographs are missing.
    """
    size = max(frame.height, frame.width)
    with Progress() as progress, progress.step("rendering the demo's scene"):
        renderer = SceneRenderer(load_textures(_TEXTURES), size=size, targets=0)
        scene = renderer.render(_SEED, id="demo", grid_fraction=_GRID_FRACTION)
    return _cropped(scene.capture, frame)


def _cropped(capture: Capture, frame: Resolution) -> Capture:
    """The middle of ``capture``, without its targets."""
    height, width = capture.wide.shape[2:]
    top, left = (height - frame.height) // 2, (width - frame.width) // 2
    values = {field.name: getattr(capture, field.name) for field in fields(capture)}
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            values[name] = value[:, :, top : top + frame.height, left : left + frame.width]
    return Capture(**{**values, "targets": ()})
