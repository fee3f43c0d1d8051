"""Camera electronics of the renderer: noise, colour response, 8-bit output, JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dfnet.rendering import srgb_from_linear

Bytes = npt.NDArray[np.uint8]


def to_bytes(picture: Tensor) -> Bytes:
    """(C, H, W) in [0, 1] -> (H, W, C) uint8, rounded half up."""
    return (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).numpy()


def from_bytes(pixels: Bytes, dtype: torch.dtype) -> Tensor:
    """(H, W, C) uint8 -> (C, H, W) in [0, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).to(dtype) / 255


def jpeg(pixels: Bytes, quality: int) -> Bytes:
    """(H, W, 3) after one JPEG round trip; 4:4:4 above quality 93, else 4:2:0, as cameras do."""
    stream = io.BytesIO()
    subsampling = 0 if quality > 93 else 2
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(stream).convert("RGB"))


def add_noise(
    linear: Tensor, rng: np.random.Generator, *, shot_gain: float, read_sigma: float
) -> Tensor:
    """Poisson-Gauss noise in its Gaussian form: variance = shot_gain * signal + read_sigma^2."""
    sigma = torch.sqrt(linear.clamp_min(0) * shot_gain + read_sigma**2)
    noise = torch.from_numpy(rng.standard_normal(tuple(linear.shape))).to(linear.dtype)
    return (linear + noise * sigma).clamp(0, 1)


def wide_bytes(linear: Tensor, rng: np.random.Generator) -> Bytes:
    """The wide camera's 8-bit picture of (3, n, n) linear light; half of them through JPEG."""
    noisy = add_noise(
        linear.clamp(0, 1), rng, shot_gain=rng.uniform(0, 5e-4), read_sigma=rng.uniform(0, 3e-3)
    )
    pixels = to_bytes(srgb_from_linear(noisy))
    return jpeg(pixels, int(rng.integers(90, 99))) if rng.random() < 0.5 else pixels


@dataclass(frozen=True)
class UltrawideResponse:
    """How the second camera differs: coarser grid, exposure, colour matrix, tone, noise, JPEG."""

    coarseness: float
    exposure: float
    colour_matrix: npt.NDArray[np.float64]
    gamma: float
    shot_gain: float
    read_sigma: float
    jpeg_quality: int

    @classmethod
    def draw(cls, rng: np.random.Generator, *, coarseness: float) -> UltrawideResponse:
        """A plausible mismatch; ``coarseness`` is its pixel pitch over the wide grid's."""
        matrix = np.eye(3) + rng.normal(0, 0.025, (3, 3))
        white_balance = np.exp(rng.normal(0, 0.04, 3))
        return cls(
            coarseness=coarseness,
            exposure=float(2 ** rng.uniform(-0.3, 0.3)),
            colour_matrix=matrix / matrix.sum(1, keepdims=True) * white_balance[:, None],
            gamma=rng.uniform(0.95, 1.06),
            shot_gain=rng.uniform(0, 1.2e-3),
            read_sigma=rng.uniform(0, 6e-3),
            jpeg_quality=int(rng.integers(82, 98)),
        )


def ultrawide_picture(
    linear: Tensor, response: UltrawideResponse, rng: np.random.Generator
) -> Tensor:
    """The ultra-wide camera's picture (3, n, n) in [0, 1], enlarged back to the wide grid."""
    size = linear.shape[-1]
    coarse_size = round(size / response.coarseness)
    coarse = F.interpolate(
        linear[None].clamp(0, 4),
        (coarse_size, coarse_size),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )[0]
    matrix = torch.from_numpy(response.colour_matrix).to(linear.dtype)
    coloured = torch.einsum("ij,jhw->ihw", matrix, coarse * response.exposure).clamp(0, 1)
    noisy = add_noise(coloured, rng, shot_gain=response.shot_gain, read_sigma=response.read_sigma)
    pixels = jpeg(to_bytes(srgb_from_linear(noisy) ** response.gamma), response.jpeg_quality)
    fine = F.interpolate(
        from_bytes(pixels, linear.dtype)[None], (size, size), mode="bicubic", align_corners=False
    )
    return fine[0].clamp(0, 1)
