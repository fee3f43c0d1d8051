"""Photographs a layered scene with a phone's wide and ultra-wide cameras.

Gives a Capture as the network meets it (noisy, colour-matched, warped with an imperfect disparity)
and the true renderings for several target defocus maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from dfnet.blend import match_colour
from dfnet.capture import MAX_RADIUS_PX, Capture, Image, Optics, Target, TargetKind
from dfnet.defocus import Lens
from dfnet.rendering import (
    Aperture,
    Layer,
    render,
    srgb_from_linear,
    translate,
    visible_dioptres,
)
from dfnet.sensor import (
    Bytes,
    UltrawideResponse,
    from_bytes,
    to_bytes,
    ultrawide_picture,
    wide_bytes,
)

WIDE = Lens(focal_length_mm=6.81, f_number=1.85, pixel_pitch_mm=2.4e-3)
ULTRAWIDE = Lens(focal_length_mm=2.35, f_number=2.2, pixel_pitch_mm=1.25e-3)
"""A Pixel 6 Pro class camera pair on its 12-megapixel grid (4080x3072)."""

BASELINE_MM = 12.0
MARGIN_PX = 48
"""Border rendered around a capture: the largest blur radius plus the largest half parallax."""

MAX_SHIFT_PX = 28.0
"""Largest parallax to either side of the alignment plane that stays inside the margin."""

_RADIUS_LIMIT_PX = MAX_RADIUS_PX - 0.1
_OCCLUSION_SHIFT_PX = 1.0


@dataclass(frozen=True)
class Focus:
    """Where the wide lens focuses, and its aperture relative to wide open."""

    dioptres: float
    aperture_ratio: float = 1.0


@dataclass(frozen=True)
class Pair:
    """The fixed geometry of one capture.

    ``grid_fraction`` is the capture's pixel grid over the 12-megapixel grid (0.25 is a preview of
    about 1024x768); ``angle`` the direction of the baseline in the picture, radians;
    ``plane_dioptres`` the plane on which the two pictures coincide before warping.
    """

    grid_fraction: float
    angle: float
    plane_dioptres: float

    @property
    def disparity_px_per_dioptre(self) -> float:
        return WIDE.focal_length_px * self.grid_fraction * BASELINE_MM * 1e-3

    def blur_px_per_dioptre(self, lens: Lens) -> float:
        """Blur radius on the wide grid per dioptre, for a lens focused near infinity.

        The exact factor 1 / (1 - f / z_focus) stays under 1.04 for the focus distances here and is
        left out so that maps scale linearly.
        """
        return 0.5e-3 * lens.aperture_mm * WIDE.focal_length_px * self.grid_fraction

    def disparity(self, dioptres: Tensor) -> Tensor:
        shift = (dioptres - self.plane_dioptres) * self.disparity_px_per_dioptre
        return shift.clamp(-MAX_SHIFT_PX, MAX_SHIFT_PX)

    def wide_radius(self, dioptres: Tensor, focus: Focus) -> Tensor:
        """Signed blur radius in pixels of the wide camera."""
        rate = self.blur_px_per_dioptre(WIDE) * focus.aperture_ratio
        return ((dioptres - focus.dioptres) * rate).clamp(-_RADIUS_LIMIT_PX, _RADIUS_LIMIT_PX)

    def ultrawide_radius(self, dioptres: Tensor, focus_dioptres: float) -> Tensor:
        """Signed blur radius of the ultra-wide camera, in pixels of the wide grid."""
        rate = self.blur_px_per_dioptre(ULTRAWIDE)
        return ((dioptres - focus_dioptres) * rate).clamp(-_RADIUS_LIMIT_PX, _RADIUS_LIMIT_PX)

    def coarseness(self, rng: np.random.Generator) -> float:
        """The ultra-wide pixel pitch over the wide grid's; its lens limits it on coarse grids."""
        pitch_ratio = WIDE.focal_length_px / ULTRAWIDE.focal_length_px
        return max(1.15, pitch_ratio * self.grid_fraction) * rng.uniform(0.95, 1.1)


def photograph(
    layers: Sequence[Layer],
    pair: Pair,
    source: Focus,
    targets: Sequence[Focus],
    *,
    id: str,
    rng: np.random.Generator,
    aperture: Aperture,
) -> Capture:
    """The capture of ``layers`` focused at ``source``, with an all-in-focus target and ``targets``.

    Layers are (n, n) with n = size + 2 * MARGIN_PX; the capture is (size, size). Deterministic for
    one ``rng`` state; exact to the byte across machines when layers are float64.
    """
    dioptres = visible_dioptres(layers)
    estimate = _estimated_dioptres(dioptres, rng)
    wide = render(layers, lambda d: pair.wide_radius(d, source), aperture)
    ultrawide_focus = float(rng.choice([0.8, 1.2, 1.6]))
    ultrawide, occlusion = _ultrawide(
        layers, pair, ultrawide_focus, dioptres, estimate, rng, aperture
    )
    wide_image = _bytes_image(wide_bytes(_crop(wide), rng))
    occlusion_image = _image(occlusion[None])
    return Capture(
        id=id,
        wide=wide_image,
        ultrawide=_eight_bit(match_colour(wide_image, _image(ultrawide), occlusion_image)),
        defocus_wide=_defocus_image(pair.wide_radius(estimate, source)),
        defocus_ultrawide=_defocus_image(pair.ultrawide_radius(estimate, ultrawide_focus)),
        occlusion=occlusion_image,
        targets=tuple(_targets(layers, pair, source, targets, estimate, aperture)),
        inverse_depth=_crop(estimate).to(torch.float32).numpy()[None, None].clip(0, 8),
        optics=Optics(pair.blur_px_per_dioptre(WIDE) * source.aperture_ratio, source.dioptres),
    )


def _targets(
    layers: Sequence[Layer],
    pair: Pair,
    source: Focus,
    targets: Sequence[Focus],
    estimate: Tensor,
    aperture: Aperture,
) -> list[Target]:
    sharp = render(layers, torch.zeros_like, aperture)
    zero = np.zeros_like(_defocus_image(estimate))
    made = [Target("all-in-focus", TargetKind.ALL_IN_FOCUS, zero, _eight_bit_srgb(sharp))]
    for number, focus in enumerate(targets, start=1):
        ratio = focus.aperture_ratio * source.aperture_ratio
        absolute = Focus(focus.dioptres, ratio)
        picture = render(layers, lambda d, f=absolute: pair.wide_radius(d, f), aperture)  # type: ignore[misc]
        defocus = _defocus_image(pair.wide_radius(estimate, absolute))
        made.append(
            Target(f"refocus-{number}", TargetKind.REFOCUS, defocus, _eight_bit_srgb(picture))
        )
    return made


def _estimated_dioptres(dioptres: Tensor, rng: np.random.Generator) -> Tensor:
    """Inverse depth as a phone would estimate it: bleeding edges and a scale error."""
    window = int(rng.choice([1, 1, 3, 5]))
    smooth = F.avg_pool2d(dioptres[None, None], window, 1, window // 2, count_include_pad=False)[
        0, 0
    ]
    return smooth * (1 + rng.normal(0, 0.01))


def _smooth_field(size: int, rng: np.random.Generator, dtype: torch.dtype) -> Tensor:
    """A low-frequency random field (n, n) of about unit variance."""
    coarse = torch.from_numpy(rng.standard_normal((1, 1, 5, 5))).to(dtype)
    return F.interpolate(coarse, (size, size), mode="bicubic", align_corners=False)[0, 0]


def _ultrawide(
    layers: Sequence[Layer],
    pair: Pair,
    focus_dioptres: float,
    dioptres: Tensor,
    estimate: Tensor,
    rng: np.random.Generator,
    aperture: Aperture,
) -> tuple[Tensor, Tensor]:
    """The warped ultra-wide picture (3, size, size) and the occlusion mask (size, size)."""
    cosine, sine = math.cos(pair.angle), math.sin(pair.angle)
    seen = [_seen_from_ultrawide(layer, pair) for layer in layers]
    disc = Aperture(aperture.size, dtype=aperture.dtype)
    linear = render(seen, lambda d: pair.ultrawide_radius(d, focus_dioptres), disc)
    response = UltrawideResponse.draw(rng, coarseness=pair.coarseness(rng))
    picture = ultrawide_picture(linear, response, rng)
    along = pair.disparity(estimate)
    along = along + _smooth_field(aperture.size, rng, aperture.dtype) * rng.uniform(0, 0.35)
    across = _smooth_field(aperture.size, rng, aperture.dtype) * rng.uniform(0, 0.3)
    warped = translate(picture, -along * cosine + across * sine, -along * sine - across * cosine)
    occlusion = _occlusion(seen, pair, dioptres)
    return _crop(warped).clamp(0, 1), _crop(occlusion)


def _seen_from_ultrawide(layer: Layer, pair: Pair) -> Layer:
    shift = pair.disparity(layer.dioptres)
    moved = translate(
        torch.cat([layer.colour, layer.alpha, layer.dioptres[None]]),
        shift * math.cos(pair.angle),
        shift * math.sin(pair.angle),
    )
    return Layer(moved[:3], moved[3:4], moved[4], layer.opaque)


def _occlusion(seen: Sequence[Layer], pair: Pair, dioptres: Tensor) -> Tensor:
    """1 where something nearer hides the wide camera's point from the ultra-wide; dilated by 1."""
    shift = pair.disparity(dioptres)
    hit = translate(
        visible_dioptres(seen)[None],
        -shift * math.cos(pair.angle),
        -shift * math.sin(pair.angle),
    )[0]
    nearer_px = (hit - dioptres) * pair.disparity_px_per_dioptre
    hidden = (nearer_px > _OCCLUSION_SHIFT_PX).to(dioptres.dtype)
    return F.max_pool2d(hidden[None, None], 3, 1, 1)[0, 0]


def _crop(picture: Tensor) -> Tensor:
    return picture[..., MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]


def _image(picture: Tensor) -> Image:
    """(C, n, n) or already cropped -> float32 (1, C, size, size)."""
    return picture.to(torch.float32).numpy()[None]


def _bytes_image(pixels: Bytes) -> Image:
    return _image(from_bytes(pixels, torch.float32))


def _eight_bit(image: Image) -> Image:
    return _bytes_image(to_bytes(torch.from_numpy(image[0])))


def _eight_bit_srgb(linear: Tensor) -> Image:
    return _bytes_image(to_bytes(_crop(srgb_from_linear(linear))))


def _defocus_image(radius: Tensor) -> npt.NDArray[np.float32]:
    """|radius| of the whole frame -> the capture's 8-bit map as float32 [0, 1]."""
    return _bytes_image(to_bytes(_crop(radius).abs()[None] / MAX_RADIUS_PX))
