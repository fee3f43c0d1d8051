"""Random layered scenes from texture photographs, for training and for the shipped captures.

python -m dfnet.scenes    renders the shipped capture sets again
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image as PillowImage
from torch import Tensor

from dfnet.capture import Capture
from dfnet.errors import CaptureError
from dfnet.photograph import MARGIN_PX, MAX_SHIFT_PX, WIDE, Focus, Pair, photograph
from dfnet.rendering import Aperture, Layer, linear_from_srgb, visible_dioptres
from dfnet.shapes import random_shape

GRID_FRACTIONS = (0.22, 1.0)
"""Rendered pixel grids over the 12-megapixel grid: from preview frames to full photos."""

NEAREST_DIOPTRES, FARTHEST_DIOPTRES = 4.7, 0.1
_MEAN_BLUR_PX = (2.0, 9.0)


@dataclass(frozen=True)
class Texture:
    """One sharp photograph tile: ``pixels`` (H, W, 3) uint8 and the photograph it is cut from."""

    pixels: npt.NDArray[np.uint8]
    source: str


def load_textures(folder: Path) -> list[Texture]:
    """Every tile ``<photograph>-<number>.jpg`` of a folder, sorted by name.

    Raises:
        CaptureError: the folder holds no tile.
    """
    files = sorted(folder.glob("*.jpg"))
    if not files:
        raise CaptureError(f"Textures {folder}: got no .jpg tile, needed at least one.")
    return [
        Texture(np.asarray(PillowImage.open(f).convert("RGB")), f.stem.rpartition("-")[0])
        for f in files
    ]


@dataclass(frozen=True)
class RenderedScene:
    """A capture, the photographs it is made of, and the seed that made it."""

    capture: Capture
    sources: tuple[str, ...]
    seed: int


class SceneRenderer:
    """Draws and photographs one random scene per seed.

    The same seed, size and dtype give the same bytes.
    """

    def __init__(
        self,
        textures: Sequence[Texture],
        *,
        size: int = 256,
        targets: int = 2,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._textures = textures
        self._targets = targets
        self._frame = size + 2 * MARGIN_PX
        self._dtype = dtype

    def render(self, seed: int, *, id: str, grid_fraction: float | None = None) -> RenderedScene:
        """The scene of ``seed``; ``grid_fraction`` is drawn from GRID_FRACTIONS when None."""
        rng = np.random.default_rng(seed)
        drawn = float(np.exp(rng.uniform(*np.log(GRID_FRACTIONS))))
        fraction = grid_fraction or drawn
        sources: set[str] = set()
        depths = _layer_dioptres(fraction, rng)
        layers = _soften(
            [self._background(depths[0], rng, sources)]
            + [self._foreground(d, rng, sources) for d in depths[1:]],
            sigma_px=rng.uniform(0.45, 0.75),
        )
        pair = Pair(fraction, _baseline_angle(rng), float(np.mean(depths)))
        source = _source_focus(layers, depths, pair, rng)
        aperture = self._aperture(rng)
        capture = photograph(
            layers,
            pair,
            source,
            [_target_focus(depths, rng) for _ in range(self._targets)],
            id=id,
            rng=rng,
            aperture=aperture,
        )
        return RenderedScene(capture, tuple(sorted(sources)), seed)

    def _aperture(self, rng: np.random.Generator) -> Aperture:
        return Aperture(
            self._frame,
            blades=int(rng.choice([0, 0, 0, 5, 6, 7, 8])),
            rotation=rng.uniform(0, 2 * math.pi),
            rim=rng.uniform(-0.2, 0.5),
            dtype=self._dtype,
        )

    def _background(self, dioptres: float, rng: np.random.Generator, used: set[str]) -> Layer:
        colour = _highlights(self._colour(rng, used), rng, point_lights=0.35)
        depth = self._plane(dioptres)
        if rng.random() < 0.5:
            depth = self._slant(depth, rng.uniform(0.1, 0.5), rng)
        return Layer(colour, torch.ones_like(colour[:1]), depth, opaque=True)

    def _foreground(self, dioptres: float, rng: np.random.Generator, used: set[str]) -> Layer:
        alpha = random_shape(self._frame, rng).to(self._dtype)[None]
        colour = _highlights(self._colour(rng, used), rng, point_lights=0.1)
        depth = self._plane(dioptres)
        if rng.random() < 0.35:
            depth = self._slant(depth, dioptres * rng.uniform(0.05, 0.3), rng)
        return Layer(colour, alpha, depth)

    def _plane(self, dioptres: float) -> Tensor:
        return torch.full((self._frame, self._frame), dioptres, dtype=self._dtype)

    def _slant(self, depth: Tensor, amount: float, rng: np.random.Generator) -> Tensor:
        """``depth`` tilted by ``amount`` dioptres across the frame in a random direction."""
        angle = rng.uniform(0, 2 * math.pi)
        axis = torch.linspace(-0.5, 0.5, self._frame, dtype=self._dtype)
        ramp = axis[None] * math.cos(angle) + axis[:, None] * math.sin(angle)
        return (depth + amount * ramp).clamp(0.02, NEAREST_DIOPTRES)

    def _colour(self, rng: np.random.Generator, used: set[str]) -> Tensor:
        """A random crop of a random tile in linear light (3, n, n), mirrored to fill the frame."""
        texture = self._textures[int(rng.integers(len(self._textures)))]
        used.add(texture.source)
        pixels = np.rot90(texture.pixels, int(rng.integers(4)) if rng.random() < 0.4 else 0)
        pixels = pixels[:, ::-1] if rng.random() < 0.5 else pixels
        crop = int(pixels.shape[0] * rng.uniform(0.55, 1.0))
        y, x = rng.integers(0, pixels.shape[0] - crop + 1, 2)
        pixels = pixels[y : y + crop, x : x + crop]
        # Mirrored rather than enlarged: enlarging would make the texture softer than a photograph.
        repeat = max(0, self._frame - crop)
        pixels = np.pad(pixels, ((0, repeat), (0, repeat), (0, 0)), mode="symmetric")
        pixels = np.ascontiguousarray(pixels[: self._frame, : self._frame])
        picture = torch.from_numpy(pixels).permute(2, 0, 1).to(self._dtype) / 255
        tint = np.exp(rng.uniform(-0.5, 0.35) + rng.uniform(-0.12, 0.12, 3))
        return linear_from_srgb(picture) * torch.from_numpy(tint).to(self._dtype)[:, None, None]


def _layer_dioptres(grid_fraction: float, rng: np.random.Generator) -> list[float]:
    """Two to five depths, far to near, whose parallax fits the rendered margin."""
    parallax_px = WIDE.focal_length_px * grid_fraction * 12e-3
    spread = min(NEAREST_DIOPTRES - FARTHEST_DIOPTRES, 2 * MAX_SHIFT_PX / parallax_px)
    spread *= rng.uniform(0.7, 1.0)
    far = rng.uniform(FARTHEST_DIOPTRES, NEAREST_DIOPTRES - spread)
    between = far + spread * rng.random(int(rng.integers(0, 4)))
    return sorted([far, *between.tolist(), far + spread])


def _baseline_angle(rng: np.random.Generator) -> float:
    return float(rng.normal(0, 0.15) + (0 if rng.random() < 0.5 else math.pi))


def _focus_dioptres(depths: Sequence[float], rng: np.random.Generator) -> float:
    """Usually on one of the layers, sometimes anywhere."""
    on_layer = rng.random() < 0.75
    chosen = (
        depths[int(rng.integers(len(depths)))]
        if on_layer
        else rng.uniform(max(0.1, depths[0] - 1), min(NEAREST_DIOPTRES, depths[-1] + 1))
    )
    return float(np.clip(chosen + rng.normal(0, 0.05), 0, NEAREST_DIOPTRES))


def _source_focus(
    layers: Sequence[Layer], depths: Sequence[float], pair: Pair, rng: np.random.Generator
) -> Focus:
    """A focus that leaves a useful mean blur, except in a few easy scenes."""
    visible = visible_dioptres(layers)
    any_blur = rng.random() < 0.1
    ratio = rng.uniform(0.9, 1.3)
    for _ in range(20):
        focus = Focus(_focus_dioptres(depths, rng), ratio)
        mean_blur = float(pair.wide_radius(visible, focus).abs().mean())
        if any_blur or _MEAN_BLUR_PX[0] < mean_blur < _MEAN_BLUR_PX[1]:
            break
    return focus


def _target_focus(depths: Sequence[float], rng: np.random.Generator) -> Focus:
    ratio = 1.0 if rng.random() < 0.6 else rng.uniform(0.4, 1.4)
    return Focus(_focus_dioptres(depths, rng), ratio)


def _highlights(colour: Tensor, rng: np.random.Generator, *, point_lights: float) -> Tensor:
    """Un-clips bright areas and, with probability ``point_lights``, adds lamps: bokeh balls."""
    over = (colour.amax(0, keepdim=True) - 0.8).clamp_min(0)
    colour = colour * (1 + over * rng.uniform(0, 8))
    if rng.random() < point_lights:
        for _ in range(int(rng.integers(3, 30))):
            y, x = rng.integers(2, colour.shape[-1] - 2, 2)
            side = int(rng.integers(1, 3))
            lamp = np.exp(rng.uniform(1, 3.5) + rng.uniform(-0.4, 0.4, 3))
            colour[:, y : y + side, x : x + side] = torch.from_numpy(lamp).to(colour)[:, None, None]
    return colour


def _soften(layers: Sequence[Layer], *, sigma_px: float) -> list[Layer]:
    """A sensor's modulation transfer: without it the tiles are sharper than any photograph."""
    side = math.exp(-1 / (2 * sigma_px**2))
    row = torch.tensor([side, 1, side], dtype=layers[0].colour.dtype)
    kernel = (row[:, None] * row / row.sum() ** 2)[None, None]

    def smooth(x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x[:, None], (1, 1, 1, 1), mode="replicate"), kernel)[:, 0]

    softened = []
    for layer in layers:
        alpha = smooth(layer.alpha)
        colour = smooth(layer.colour * layer.alpha) / alpha.clamp_min(1e-3)
        softened.append(Layer(colour, alpha, layer.dioptres, layer.opaque))
    return softened
