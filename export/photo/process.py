"""Running one file over a photo, tile by tile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from dfnet.console import Progress
from dfnet.errors import ArtifactError
from dfnet.runner import Runner
from dfnet.signature import OUTPUT, Feed
from dfnet.tiling import Tile
from export.photo.choice import Choice
from export.photo.memory import peak_mb
from export.photo.raw import Pixels, RawPicture
from export.photo.scratch import Scratch, identity, scratch_of
from export.photo.source import DecodedCapture, PhotoCapture

Opener = Callable[[], Runner]

_STRIP_ROWS = 32
"""Rows rounded at once: temporaries stay in a core's cache, in half the time of whole planes."""


@dataclass(frozen=True)
class PhotoResult:
    """What a run did; times are wall times of this run's own tiles.

    ``tiles_s`` covers reading, inference and writing of tiles; ``decode_s`` and ``encode_s`` the
    PNG files; ``load_s`` opening the artifact.
    """

    output: str
    artifact: str
    artifact_sha256: str
    photo: str
    tile: str
    tiles: int
    resumed: int
    halo_ratio: float
    expected_mb: float
    peak_mb: float
    decode_s: float
    load_s: float
    tiles_s: float
    encode_s: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def refocus_photo(
    choice: Choice, capture: PhotoCapture, output: Path, opener: Opener, progress: Progress
) -> PhotoResult:
    """Writes the refocused photo to ``output``, whole or not at all.

    Finished tiles are kept beside it until then: the same call goes on where another was
    interrupted.

    Raises:
        CaptureError: a picture cannot be decoded.
        ArtifactError: the output cannot be written, or a result is not finite.
    """
    key = identity(choice.artifact, capture, choice.plan)
    with scratch_of(output, key, choice.plan) as scratch:
        clock = _Clock()
        with progress.step("Decode the capture"):
            decoded = DecodedCapture(capture, scratch.folder, choice.plan.tile)
        decode_s = clock.lap()
        resumed = len(scratch.done())
        with opener() as runner:
            load_s = clock.lap()
            _run_tiles(choice, scratch, decoded, runner, progress)
            tiles_s = clock.lap()
        del decoded
        with progress.step("Write the photo"):
            _save(scratch.picture, output)
        manifest = choice.artifact.manifest
        return PhotoResult(
            output=str(output),
            artifact=choice.artifact.id,
            artifact_sha256=manifest.artifact_sha256,
            photo=str(choice.plan.photo),
            tile=str(choice.plan.tile),
            tiles=len(choice.plan.tiles),
            resumed=resumed,
            halo_ratio=choice.plan.halo_ratio,
            expected_mb=choice.expected_mb,
            peak_mb=peak_mb(),
            decode_s=decode_s,
            load_s=load_s,
            tiles_s=tiles_s,
            encode_s=clock.lap(),
        )


class _Clock:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap."""
        before, self._last = self._last, time.perf_counter()
        return self._last - before


def _run_tiles(
    choice: Choice,
    scratch: Scratch,
    decoded: DecodedCapture,
    runner: Runner,
    progress: Progress,
) -> None:
    done = scratch.done()
    if done:
        progress.say(f"Going on: {len(done)} of {len(choice.plan.tiles)} tiles are done.")
    # A result reaches the disk while the next tile is computed.
    with ThreadPoolExecutor(1) as writer:
        written = writer.submit(lambda: None)
        for number, tile in enumerate(choice.plan.tiles):
            if number in done:
                continue
            with progress.step(f"Tile {number + 1} of {len(choice.plan.tiles)}"):
                # Unnamed, so that one tile's inputs are gone when the next one's are read.
                window = _kept(
                    tile, runner, decoded.feed(tile.rows.start, tile.columns.start), choice
                )
                written.result()
                written = writer.submit(
                    scratch.keep, number, tile.rows.keep_start, tile.columns.keep_start, window
                )
        written.result()


def _kept(tile: Tile, runner: Runner, feed: Feed, choice: Choice) -> Pixels:
    """The part of a tile's result that is kept, rounded to 8 bits."""
    rows, columns = (
        slice(span.keep_start - span.start, span.keep_end - span.start)
        for span in (tile.rows, tile.columns)
    )
    picture = runner.infer(feed)[OUTPUT][0, :, rows, columns]
    levels = np.empty((*picture.shape[1:], 3), np.uint8)
    for top in range(0, len(levels), _STRIP_ROWS):
        strip = slice(top, top + _STRIP_ROWS)
        for channel, plane in enumerate(picture):
            scaled = plane[strip] * np.float32(255)
            if not np.isfinite(scaled).all():
                raise ArtifactError(
                    f"Artifact {choice.artifact.id}: got values that are not finite at row "
                    f"{tile.rows.keep_start}, column {tile.columns.keep_start}, needed a picture. "
                    "Check it with `python -m benchmarks parity`."
                )
            np.rint(scaled, out=scaled)
            levels[strip, :, channel] = np.clip(scaled, 0, 255, out=scaled)
    return levels


def _save(picture: RawPicture, output: Path) -> None:
    pixels = np.fromfile(picture.path, np.uint8)
    image = Pillow.fromarray(pixels.reshape(picture.height, picture.width, 3))
    part = picture.path.with_name("photo.png.part")
    # Level 1 takes a third of the default's time for a tenth more bytes.
    image.save(part, format="PNG", compress_level=1)
    os.replace(part, output)
