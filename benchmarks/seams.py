"""How much tiles differ from the whole frame, for two files of one export."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfnet.artifact import Artifact
from dfnet.capture import Image
from dfnet.errors import ArtifactError
from dfnet.profiles import Resolution
from dfnet.reach import read_receptive_field
from dfnet.runner import Runner
from dfnet.signature import OUTPUT, Feed
from dfnet.tiling import TilePlan, plan_tiles
from export.photo.opening import open_runner


@dataclass(frozen=True)
class Seams:
    """The largest difference of any value: as the files give it, and in levels of 8 bits."""

    frame: str
    tile: str
    tiles: int
    whole_sha256: str
    tile_sha256: str
    difference: float
    levels: int


def measure_seams(whole: Artifact, tiled: Artifact, feed: Feed, *, threads: int) -> Seams:
    """Runs ``whole`` on ``feed``, which has its resolution, and ``tiled`` over the same frame.

    Raises:
        ArtifactError: the files are not of one network, runtime and recipe.
        UnsupportedError: the frame cannot be cut into tiles of that size.
    """
    _require_twins(whole, tiled)
    frame, tile = whole.manifest.resolution, tiled.manifest.resolution
    plan = plan_tiles(frame, tile, read_receptive_field(tiled))
    with open_runner(whole, threads=threads) as runner:
        reference = runner.infer(feed)[OUTPUT].copy()
    with open_runner(tiled, threads=threads) as runner:
        candidate = infer_tiles(runner, plan, feed)
    levels = [
        np.clip(np.rint(one * np.float32(255)), 0, 255).astype(int)
        for one in (reference, candidate)
    ]
    return Seams(
        frame=str(frame),
        tile=str(tile),
        tiles=len(plan.tiles),
        whole_sha256=whole.manifest.artifact_sha256,
        tile_sha256=tiled.manifest.artifact_sha256,
        difference=float(np.abs(reference - candidate).max()),
        levels=int(np.abs(levels[0] - levels[1]).max()),
    )


def infer_tiles(runner: Runner, plan: TilePlan, feed: Feed) -> Image:
    """The whole picture (1, 3, H, W) from tiles of ``feed``, which has the plan's frame size."""
    picture = np.empty((1, 3, plan.frame.height, plan.frame.width), np.float32)
    for rows, columns in ((tile.rows, tile.columns) for tile in plan.tiles):
        window = (
            slice(rows.start, rows.start + plan.tile.height),
            slice(columns.start, columns.start + plan.tile.width),
        )
        inputs = {n: np.ascontiguousarray(x[:, :, *window]) for n, x in feed.items()}
        kept = slice(rows.keep_start, rows.keep_end), slice(columns.keep_start, columns.keep_end)
        inner = tuple(
            slice(part.start - span.start, part.stop - span.start)
            for part, span in zip(kept, (rows, columns), strict=True)
        )
        picture[:, :, *kept] = runner.infer(inputs)[OUTPUT][:, :, *inner]
    return picture


def _require_twins(whole: Artifact, tiled: Artifact) -> None:
    one, other = (
        (m.checkpoint_sha256, m.runtime, m.backend, m.recipe["name"])
        for m in (whole.manifest, tiled.manifest)
    )
    if one != other:
        raise ArtifactError(
            f"Seams: got {whole.id} and {tiled.id}, needed one network, runtime and recipe at two "
            "resolutions. Give files of one export."
        )


def middle(feed_size: Resolution, frame: Resolution) -> tuple[int, int]:
    """Top and left of ``frame`` in the middle of a larger picture, in multiples of 8."""
    return (
        (feed_size.height - frame.height) // 16 * 8,
        (feed_size.width - frame.width) // 16 * 8,
    )
