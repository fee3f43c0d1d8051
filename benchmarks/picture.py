"""A picture of what an artifact does: wide, ultra-wide, result, truth, one row per capture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt

from benchmarks.mosaic import Mosaic, fill_frame
from dfnet.artifact import Artifact
from dfnet.capture import Capture, Image
from dfnet.errors import CaptureError
from dfnet.metrics import psnr_db
from dfnet.signature import OUTPUT
from export import load_runtime

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_COLUMNS = ("wide (input)", "ultra-wide (input)", "result", "truth")


@dataclass(frozen=True)
class Strip:
    """One capture's pictures (H, W, 3) in [0, 1], and the PSNR in dB of wide and result."""

    caption: str
    pictures: tuple[npt.NDArray[np.float32], ...]
    wide_db: float
    result_db: float


def draw(
    artifact: Artifact,
    captures: Sequence[Capture],
    wanted: Sequence[tuple[str, str]],
    *,
    threads: int,
    path: Path,
) -> None:
    """Runs ``artifact`` on mosaics of ``captures`` and writes ``wanted`` rows to ``path``.

    ``wanted`` lists (capture id, target name). The suffix of ``path`` chooses the format.

    Raises:
        CaptureError: a wanted capture or target is not in the mosaics.
        UnsupportedError: this machine cannot run the artifact.
    """
    mosaics = fill_frame(captures, artifact.manifest.resolution)
    outputs: dict[str, Image] = {}
    with load_runtime(artifact.manifest.runtime).open(artifact, threads=threads) as runner:
        for mosaic in mosaics:
            if any(target == mosaic.target for _, target in wanted):
                outputs[mosaic.id] = np.clip(runner.infer(mosaic.feed)[OUTPUT], 0, 1)
    strips = [_strip(mosaics, outputs, capture, target) for capture, target in wanted]
    _plot(strips, artifact, path)


def _strip(
    mosaics: Sequence[Mosaic], outputs: dict[str, Image], capture: str, target: str
) -> Strip:
    for mosaic in mosaics:
        tiles = [t for t in mosaic.tiles if t.capture == capture and mosaic.target == target]
        if tiles:
            tile = tiles[0]
            wide, truth = tile.crop(mosaic.feed["wide"]), tile.crop(mosaic.truth)
            ultrawide, result = tile.crop(mosaic.feed["ultrawide"]), tile.crop(outputs[mosaic.id])
            pictures = tuple(p[0].transpose(1, 2, 0) for p in (wide, ultrawide, result, truth))
            return Strip(target, pictures, psnr_db(truth, wide), psnr_db(truth, result))
    shown = sorted({f"{t.capture}:{m.target}" for m in mosaics for t in m.tiles})
    raise CaptureError(
        f"Picture: got {capture}:{target}, needed a capture and target with truth. "
        f"Choose from {', '.join(shown)}."
    )


def _plot(strips: Sequence[Strip], artifact: Artifact, path: Path) -> None:
    size = (2.6 * len(_COLUMNS), 2.75 * len(strips) + 0.3)
    figure, axes = plt.subplots(
        len(strips), len(_COLUMNS), figsize=size, layout="constrained", squeeze=False
    )
    for row, strip in zip(axes, strips, strict=True):
        notes = (f"{strip.wide_db:.1f} dB", "", f"{strip.result_db:.1f} dB", "")
        for axis, picture, note in zip(row, strip.pictures, notes, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set(xticks=[], yticks=[], xlabel=note)
        row[0].set_ylabel(strip.caption)
    for axis, title in zip(axes[0], _COLUMNS, strict=True):
        axis.set_title(title)
    manifest = artifact.manifest
    axes[0][2].set_title(f"result ({manifest.runtime} {manifest.recipe['name']})")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
