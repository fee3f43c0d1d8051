"""Random outlines of foreground layers: anti-aliased coverage maps (n, n) in [0, 1]."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def random_shape(size: int, rng: np.random.Generator) -> Tensor:
    """One of ellipse, convex polygon, blob, stalks or half plane, float64."""
    draw = (_ellipse, _polygon, _blob, _stalks, _half_plane)[int(rng.integers(5))]
    axis = torch.arange(size, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return draw(x, y, rng)


def _rotated(
    x: Tensor, y: Tensor, angle: float, centre: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Coordinates along and across ``angle`` about ``centre``."""
    dx, dy = x - centre[0], y - centre[1]
    cosine, sine = math.cos(angle), math.sin(angle)
    return dx * cosine + dy * sine, dy * cosine - dx * sine


def _centre(x: Tensor, rng: np.random.Generator, low: float = 0.1) -> tuple[float, float]:
    size = x.shape[0]
    return rng.uniform(low * size, (1 - low) * size), rng.uniform(low * size, (1 - low) * size)


def _ellipse(x: Tensor, y: Tensor, rng: np.random.Generator) -> Tensor:
    long, short = rng.uniform(0.08, 0.35, 2) * x.shape[0]
    along, across = _rotated(x, y, rng.uniform(0, math.pi), _centre(x, rng))
    inside = 1 - torch.sqrt((along / long) ** 2 + (across / short) ** 2)
    return (inside * float(min(long, short)) + 0.5).clamp(0, 1)


def _polygon(x: Tensor, y: Tensor, rng: np.random.Generator) -> Tensor:
    centre = _centre(x, rng)
    sides = int(rng.integers(3, 7))
    start = rng.uniform(0, 2 * math.pi)
    distances = []
    for side in range(sides):
        angle = start + side * 2 * math.pi / sides + rng.uniform(-0.3, 0.3)
        along, _ = _rotated(x, y, angle, centre)
        distances.append(rng.uniform(0.08, 0.3) * x.shape[0] - along)
    return (torch.stack(distances).amin(0) + 0.5).clamp(0, 1)


def _blob(x: Tensor, y: Tensor, rng: np.random.Generator) -> Tensor:
    coarse = torch.from_numpy(rng.standard_normal((1, 1, *rng.integers(3, 9, 2))))
    height = F.interpolate(coarse, x.shape, mode="bicubic", align_corners=False)[0, 0]
    height = height - rng.uniform(0.2, 0.8)
    slope = (height[1:] - height[:-1]).abs().mean() + 1e-4
    return (height / (slope * 1.5) + 0.5).clamp(0, 1)


def _stalks(x: Tensor, y: Tensor, rng: np.random.Generator) -> Tensor:
    """Thin, slightly curved bars: grass, wires, fingers."""
    coverage = torch.zeros_like(x)
    for _ in range(int(rng.integers(2, 9))):
        along, across = _rotated(x, y, rng.uniform(0, math.pi), _centre(x, rng, low=0.0))
        bend = rng.uniform(-2, 2) / x.shape[0] * 0.3
        half_width = rng.uniform(0.8, 6)
        bar = (half_width - (across + bend * along**2).abs() + 0.5).clamp(0, 1)
        coverage = torch.maximum(coverage, bar)
    return coverage


def _half_plane(x: Tensor, y: Tensor, rng: np.random.Generator) -> Tensor:
    along, _ = _rotated(x, y, rng.uniform(-0.6, 0.6), _centre(x, rng))
    side = 1 if rng.random() < 0.5 else -1
    return (along * side - rng.uniform(0, 0.2) * x.shape[0] + 0.5).clamp(0, 1)
