"""Thin-lens rendering of layered scenes in linear light.

A scene is a list of layers ordered far to near. Each layer carries full colour everywhere, so that
what a blurred foreground edge uncovers is real background, and an inverse-depth map in dioptres
(1/m). Pictures here are torch tensors (C, n, n) of linear light, un-clipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

PLANE_STEP_PX = 0.5
"""A slanted layer is cut into planes whose blur radii differ by this much."""

RadiusOf = Callable[[Tensor], Tensor]
"""Signed blur radius in pixels for inverse depths in dioptres."""


@dataclass(frozen=True)
class Layer:
    """One surface: ``colour`` (3, n, n) linear, ``alpha`` (1, n, n) in [0, 1], ``dioptres`` (n, n).

    An ``opaque`` layer fills the frame; blurring it never lets anything through.
    """

    colour: Tensor
    alpha: Tensor
    dioptres: Tensor
    opaque: bool = False


@dataclass
class Aperture:
    """A lens aperture's point spread: a disc, or a polygon of ``blades`` sides.

    ``rim`` brightens (positive) or dims the outer part of the disc, as spherical aberration does.
    Kernels sum to 1 and are cached per quarter pixel of radius.
    """

    size: int
    blades: int = 0
    rotation: float = 0.0
    rim: float = 0.0
    dtype: torch.dtype = torch.float32
    _spectra: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def kernel(self, radius_px: float) -> Tensor:
        """The (2k+1, 2k+1) point spread of a blur circle of ``radius_px``; edges anti-aliased."""
        reach = math.ceil(radius_px + 1)
        axis = torch.arange(-reach, reach + 1, dtype=self.dtype)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        distance = torch.hypot(x, y)
        weight = (self._edge(radius_px, x, y) + 0.5 - distance).clamp(0, 1)
        weight = weight * (1 + self.rim * (distance / max(radius_px, 1.0)) ** 4)
        return weight / weight.sum()

    def _edge(self, radius_px: float, x: Tensor, y: Tensor) -> Tensor:
        """Distance from the centre to the aperture's edge in each direction."""
        if not self.blades:
            return torch.full_like(x, radius_px)
        sector = 2 * math.pi / self.blades
        angle = torch.remainder(torch.atan2(y, x) + self.rotation, sector) - sector / 2
        polygon = radius_px * math.cos(sector / 2) / torch.cos(angle)
        # Apertures of many blades are rounded; five or six blades show their corners.
        return 0.5 * (polygon + radius_px) if self.blades > 6 else 1.05 * polygon

    def blur(self, picture: Tensor, radius_px: float) -> Tensor:
        """``picture`` (C, n, n) convolved with the kernel; the frame wraps around at its border."""
        quarter_steps = round(abs(radius_px) * 4)
        if quarter_steps == 0:
            return picture
        if quarter_steps not in self._spectra:
            self._spectra[quarter_steps] = self._spectrum(quarter_steps / 4)
        spectrum = torch.fft.rfft2(picture) * self._spectra[quarter_steps]
        blurred: Tensor = torch.fft.irfft2(spectrum, s=(self.size, self.size))
        return blurred.clamp_min(0)

    def _spectrum(self, radius_px: float) -> Tensor:
        kernel = self.kernel(radius_px)
        side = kernel.shape[0]
        padded = torch.zeros(self.size, self.size, dtype=self.dtype)
        padded[:side, :side] = kernel
        centred = torch.roll(padded, (-(side // 2), -(side // 2)), (0, 1))
        spectrum: Tensor = torch.fft.rfft2(centred)
        return spectrum


def render(layers: Sequence[Layer], radius_of: RadiusOf, aperture: Aperture) -> Tensor:
    """The picture (3, n, n) of ``layers`` (far to near) through a lens.

    ``radius_of(dioptres)`` is zero everywhere for an all-in-focus rendering.
    """
    size = aperture.size
    picture = torch.zeros(3, size, size, dtype=aperture.dtype)
    for layer in layers:
        colour, alpha = _blurred(layer, radius_of(layer.dioptres), aperture)
        picture = colour + (1 - alpha) * picture
    return picture


def _blurred(layer: Layer, radius: Tensor, aperture: Aperture) -> tuple[Tensor, Tensor]:
    """A layer's premultiplied colour and its alpha after blurring."""
    premultiplied = torch.cat([layer.colour * layer.alpha, layer.alpha])
    nearest, farthest = float(radius.min()), float(radius.max())
    if farthest - nearest < PLANE_STEP_PX / 2:
        blurred = aperture.blur(premultiplied, (nearest + farthest) / 2)
    else:
        blurred = _blurred_planes(premultiplied, radius, aperture)
    colour, alpha = blurred[:3], blurred[3:]
    if layer.opaque:
        return colour / alpha.clamp_min(1e-3), torch.ones_like(alpha)
    overfull = alpha.clamp_min(1)
    return colour / overfull, alpha / overfull


def _blurred_planes(premultiplied: Tensor, radius: Tensor, aperture: Aperture) -> Tensor:
    """Sum of planes of constant radius, each pixel split between its two nearest planes."""
    low, high = float(radius.min()), float(radius.max())
    step = max(PLANE_STEP_PX, (high - low) / 12)
    total = torch.zeros_like(premultiplied)
    for index in range(math.floor(low / step), math.ceil(high / step) + 1):
        share = (1 - (radius - index * step).abs() / step).clamp_min(0)
        if float(share.max()) > 0:
            total = total + aperture.blur(premultiplied * share, index * step)
    return total


def visible_dioptres(layers: Sequence[Layer]) -> Tensor:
    """The z-buffer (n, n): inverse depth of the nearest layer that covers each pixel."""
    depth = layers[0].dioptres
    for layer in layers[1:]:
        depth = torch.where(layer.alpha[0] > 0.5, layer.dioptres, depth)
    return depth


def translate(picture: Tensor, right_px: Tensor, down_px: Tensor) -> Tensor:
    """``picture`` (C, n, n) moved right and down by per-pixel amounts; borders are repeated."""
    _, height, width = picture.shape
    y, x = torch.meshgrid(
        torch.arange(height, dtype=picture.dtype),
        torch.arange(width, dtype=picture.dtype),
        indexing="ij",
    )
    grid = torch.stack(
        [2 * (x - right_px) / (width - 1) - 1, 2 * (y - down_px) / (height - 1) - 1], -1
    )
    return F.grid_sample(
        picture[None], grid[None], mode="bilinear", padding_mode="border", align_corners=True
    )[0]


def linear_from_srgb(x: Tensor) -> Tensor:
    """Linear light from sRGB values in [0, 1] (IEC 61966-2-1)."""
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055).clamp_min(0) ** 2.4)


def srgb_from_linear(x: Tensor) -> Tensor:
    """Gamma-encoded sRGB values in [0, 1] from linear light, clipped (IEC 61966-2-1)."""
    x = x.clamp(0, 1)
    return torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp_min(1e-8) ** (1 / 2.4) - 0.055)
