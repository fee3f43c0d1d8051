"""Fixtures every test may use: a tiny seeded network and small synthetic captures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count as counter
from pathlib import Path

import numpy as np
import pytest
import torch

from dfnet.capture import MAX_RADIUS_PX, Capture, Image, Optics, Split, Target, TargetKind
from dfnet.capturemanifest import Provenance
from dfnet.captureset import CaptureItem, CaptureSet, write_captures
from dfnet.model import DFNet, DFNetConfig
from dfnet.signature import Feed
from quantize.recipe import RECIPES

pytest_plugins = ["plugin_full", "plugin_schedule"]

_FIRST_SEED = {split: 1000 * index for index, split in enumerate(Split, start=1)}
_OPTICS = Optics(blur_px_per_dioptre=2.0, focus_dioptres=1.0)
_REFOCUS_DIOPTRES = 3.0


@pytest.fixture(autouse=True, scope="session")
def brief_corrections() -> Iterator[None]:
    """Recipes learn for a moment only, on few crops; commands of their own process do it all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quantize.ptq.CROPS", 6)
        for name, recipe in RECIPES.items():
            if recipe.rounding_steps:
                patch.setitem(RECIPES, name, replace(recipe, rounding_steps=20))
        yield


@pytest.fixture
def tiny_network() -> DFNet:
    """A DFNet small enough for every export, with the same weights every time; eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DFNet(DFNetConfig(width=4, blocks=(1, 1, 1))).eval()


@pytest.fixture
def make_capture() -> Callable[..., Capture]:
    """``make_capture(seed, size=64)``: a capture in memory, exactly as a file would hold it."""
    return _synthetic_capture


@pytest.fixture
def captures(make_capture: Callable[..., Capture]) -> tuple[Capture, ...]:
    """Three captures of 64x64 with an all-in-focus and a refocus target, both with truth."""
    return tuple(make_capture(seed) for seed in range(3))


@pytest.fixture
def feed(captures: tuple[Capture, ...]) -> Feed:
    """One inference's inputs at 64x64: the first capture, refocused."""
    return captures[0].feed(captures[0].targets[1])


@pytest.fixture
def make_capture_set(tmp_path: Path) -> Callable[..., CaptureSet]:
    """``make_capture_set(split, count, size=64)``: a new set on disk.

    Seeds, sources and ids differ between splits and repeat between two sets of one split.
    """
    numbers = counter()

    def make(split: Split, count: int, size: int = 64) -> CaptureSet:
        seeds = range(_FIRST_SEED[split], _FIRST_SEED[split] + count)
        items = [
            CaptureItem(
                _synthetic_capture(seed, size),
                Provenance(sources=(f"synthetic-{seed}",), seed=seed, licence="CC0-1.0"),
            )
            for seed in seeds
        ]
        return write_captures(
            tmp_path / f"captures-{next(numbers)}-{split}", split, items, licence="CC0-1.0"
        )

    return make


def _synthetic_capture(seed: int, size: int = 64) -> Capture:
    """A textured half plane in front of a sloping background, seen by both cameras."""
    rng = np.random.default_rng(seed)
    depth = _inverse_depth(rng, size)
    sharp, soft = _texture(rng, size), _texture(rng, size, finest=4)
    focused_elsewhere = _radius(depth, _REFOCUS_DIOPTRES)
    truth = _blend(sharp, soft, focused_elsewhere)
    occlusion = np.zeros((1, 1, size, size), np.float32)
    occlusion[..., size // 2 : size // 2 + size // 16] = 1
    colour = rng.uniform(0.9, 1.1, (1, 3, 1, 1)).astype(np.float32)
    noise = rng.normal(0, 0.01, sharp.shape).astype(np.float32)
    return Capture(
        id=f"synthetic-{seed}",
        wide=_eight_bit(_blend(sharp, soft, _radius(depth, _OPTICS.focus_dioptres))),
        ultrawide=_eight_bit(np.where(occlusion > 0, soft, sharp * colour + noise)),
        defocus_wide=_eight_bit(_radius(depth, _OPTICS.focus_dioptres)),
        defocus_ultrawide=_eight_bit(0.3 * _radius(depth, _OPTICS.focus_dioptres)),
        occlusion=occlusion,
        targets=(
            Target("aif", TargetKind.ALL_IN_FOCUS, np.zeros_like(occlusion), _eight_bit(sharp)),
            Target("near", TargetKind.REFOCUS, _eight_bit(focused_elsewhere), _eight_bit(truth)),
        ),
        inverse_depth=depth,
        optics=_OPTICS,
    )


def _inverse_depth(rng: np.random.Generator, size: int) -> Image:
    """Dioptres, in the steps of the 16-bit file."""
    depth = np.tile(np.linspace(0.2, 0.2 + rng.uniform(0.5, 1.5), size), (size, 1))
    depth[:, : size // 2] = rng.uniform(2.5, 3.5)
    return (np.rint(depth * 8192) / 8192).astype(np.float32)[None, None]


def _radius(depth: Image, focus_dioptres: float) -> Image:
    """The defocus map: blur radius as a fraction of MAX_RADIUS_PX."""
    radius_px: Image = _OPTICS.blur_px_per_dioptre * np.abs(depth - np.float32(focus_dioptres))
    return radius_px / np.float32(MAX_RADIUS_PX)


def _texture(rng: np.random.Generator, size: int, *, finest: int = 12) -> Image:
    """Six sinusoids per channel with up to ``finest`` periods across the picture."""
    y, x = np.mgrid[:size, :size] / size
    planes = [
        0.5
        + sum(
            0.08 * np.sin(2 * np.pi * (fx * x + fy * y) + phase)
            for fx, fy, phase in rng.uniform((-finest, 0, 0), (finest, finest, 6.28), (6, 3))
        )
        for _ in range(3)
    ]
    return np.stack(planes)[None].astype(np.float32)


def _blend(sharp: Image, soft: Image, defocus: Image) -> Image:
    """Softer where the blur radius is larger; smooth, and enough of a lens for the tests."""
    weight = np.clip(4 * defocus, 0, 1)
    return sharp + weight * (soft - sharp)


def _eight_bit(image: Image) -> Image:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.float32) / np.float32(255)
