"""The capture sets in data/captures: which photographs, which seeds.

    python -m dfnet.shipped    renders them again (they are committed; this only documents how)

Splits share no source photograph and no seed. Seeds were taken in order, not chosen.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from dfnet.capture import Split
from dfnet.capturemanifest import Provenance
from dfnet.captureset import CaptureItem, write_captures
from dfnet.scenes import SceneRenderer, Texture, load_textures
from dfnet.stereo_scene import stereo_captures

log = logging.getLogger(__name__)

TEXTURES = Path("data/textures")
CAPTURES = Path("data/captures")

VALIDATION_PHOTOGRAPHS = ("coffee", "picture-0b", "wine")
"""Kept out of training and calibration."""

LICENCE = "rendered from the tiles of data/textures; see its ATTRIBUTION.md, file by file"


@dataclass(frozen=True)
class ShippedSet:
    """``count`` captures from ``first_seed`` on, of the tiles in ``textures``/."""

    split: Split
    textures: str
    first_seed: int
    count: int
    stereo: bool = False

    def tiles(self) -> list[Texture]:
        """The photographs this split may use."""
        validation = self.split is Split.VALIDATION
        return [
            t
            for t in load_textures(TEXTURES / self.textures)
            if (t.source in VALIDATION_PHOTOGRAPHS) == validation
        ]


SHIPPED = (
    ShippedSet(Split.CALIBRATION, "train", first_seed=100, count=16),
    ShippedSet(Split.VALIDATION, "train", first_seed=200, count=8),
    ShippedSet(Split.HELD_OUT, "held_out", first_seed=300, count=8, stereo=True),
)


def render_items(shipped: ShippedSet) -> list[CaptureItem]:
    """The set's captures with their provenance, rendered in float64."""
    renderer = SceneRenderer(shipped.tiles(), dtype=torch.float64)
    items = []
    for seed in range(shipped.first_seed, shipped.first_seed + shipped.count):
        scene = renderer.render(seed, id=f"{shipped.split.replace('_', '-')}-{seed}")
        items.append(
            CaptureItem(scene.capture, Provenance(scene.sources, seed, LICENCE, derived=False))
        )
        log.info("rendered %s", scene.capture.id)
    return items + (stereo_captures() if shipped.stereo else [])


def main() -> None:
    """Renders every shipped set into data/captures."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for shipped in SHIPPED:
        items = render_items(shipped)
        write_captures(CAPTURES / shipped.split, shipped.split, items, licence=LICENCE)


if __name__ == "__main__":
    main()
