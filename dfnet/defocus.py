"""Thin-lens defocus maps, and the target maps a photographer asks for.

A defocus map is unsigned blur radius / MAX_RADIUS_PX, float32 [0, 1] (1, 1, H, W): 0 is sharp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dfnet.capture import MAX_DIOPTRES, MAX_RADIUS_PX, Capture, Image, Optics, Target, TargetKind
from dfnet.errors import CaptureError

_WINDOW = 5
"""Side, in pixels, of the square whose median depth a tap focuses on."""


@dataclass(frozen=True)
class Lens:
    """A thin lens. A point at z, with the focus at zf, has a blur circle of the radius
    ``0.5 * A * f_px * (1/z - 1/zf) / (1 - f/zf)`` pixels: A is the aperture's diameter and f the
    focal length, both in z's unit; f_px is the focal length in pixels.
    """

    focal_length_mm: float
    f_number: float
    pixel_pitch_mm: float

    def __post_init__(self) -> None:
        values = (self.focal_length_mm, self.f_number, self.pixel_pitch_mm)
        if not all(math.isfinite(value) and value > 0 for value in values):
            raise CaptureError(f"Lens: got {self}, needed three positive numbers. Correct them.")

    @property
    def focal_length_px(self) -> float:
        return self.focal_length_mm / self.pixel_pitch_mm

    @property
    def aperture_mm(self) -> float:
        return self.focal_length_mm / self.f_number

    def blur_px_per_dioptre(self, *, focus_dioptres: float, scale: float = 1.0) -> float:
        """Blur radius in pixels per dioptre; ``scale`` is picture size / sensor pixel grid.

        Raises:
            CaptureError: ``scale`` is not positive, or the lens cannot focus that near.
        """
        focal_length_m = self.focal_length_mm / 1000
        if not 0 <= focus_dioptres * focal_length_m < 1 or not 0 < scale < math.inf:
            raise CaptureError(
                f"Lens: got a focus of {focus_dioptres} dioptres at scale {scale}, needed 0 to "
                f"{1 / focal_length_m:.0f} dioptres and a positive scale. Correct them."
            )
        aperture_m = self.aperture_mm / 1000
        magnification = 1 / (1 - focal_length_m * focus_dioptres)
        return 0.5 * aperture_m * self.focal_length_px * scale * magnification


def defocus_map(inverse_depth: Image, optics: Optics) -> Image:
    """The map of ``inverse_depth``, (1, 1, H, W) dioptres; radii over MAX_RADIUS_PX read 1."""
    radius_px = optics.blur_px_per_dioptre * np.abs(inverse_depth - optics.focus_dioptres)
    return _as_map(radius_px)


def all_in_focus(capture: Capture) -> Target:
    """Everything sharp."""
    return Target("all-in-focus", TargetKind.ALL_IN_FOCUS, np.zeros_like(capture.defocus_wide))


def refocus_at_dioptres(capture: Capture, dioptres: float) -> Target:
    """Focus moved to 1 / ``dioptres`` metres, with the same aperture.

    The blur per dioptre is kept. It changes with focus by 1 / (1 - f/zf), which is below 3 % from
    infinity to 25 cm for the 6.8 mm lenses of phones.

    Raises:
        CaptureError: the capture has no depth, or ``dioptres`` is outside [0, MAX_DIOPTRES].
    """
    inverse_depth, optics = _depth(capture)
    if not 0 <= dioptres <= MAX_DIOPTRES:
        raise CaptureError(
            f"Refocus: got {dioptres} dioptres, needed 0 (infinity) to {MAX_DIOPTRES:.2f}. "
            "Give 1 / distance in metres."
        )
    moved = defocus_map(inverse_depth, replace(optics, focus_dioptres=dioptres))
    return Target(f"refocus-{dioptres:.2f}d", TargetKind.REFOCUS, moved)


def refocus_at_pixel(capture: Capture, x: int, y: int) -> Target:
    """Focus moved to what is at pixel column ``x``, row ``y``.

    Raises:
        CaptureError: the capture has no depth, or the pixel is outside the picture.
    """
    return refocus_at_dioptres(capture, dioptres_at_pixel(capture, x, y))


def dioptres_at_pixel(capture: Capture, x: int, y: int) -> float:
    """What is at pixel column ``x``, row ``y``: the median inverse depth of 5x5 pixels.

    Raises:
        CaptureError: the capture has no depth, or the pixel is outside the picture.
    """
    inverse_depth, _ = _depth(capture)
    height, width = inverse_depth.shape[2:]
    if not (0 <= x < width and 0 <= y < height):
        raise CaptureError(
            f"Refocus: got the pixel x={x}, y={y}, needed x below {width} and y below {height}. "
            "Choose a pixel of the wide picture."
        )
    reach = _WINDOW // 2
    rows, columns = (slice(max(0, at - reach), at + reach + 1) for at in (y, x))
    return float(np.median(inverse_depth[..., rows, columns]))


def depth_of_field(capture: Capture, f_number_ratio: float) -> Target:
    """The same focus with the f-number multiplied: above 1 deeper, below 1 shallower.

    Where the wide picture's map is saturated (radius MAX_RADIUS_PX) a deeper target's blur is
    underestimated.

    Raises:
        CaptureError: ``f_number_ratio`` is not a positive number other than 1.
    """
    if not (0 < f_number_ratio < math.inf) or f_number_ratio == 1:
        raise CaptureError(
            f"Depth of field: got an f-number ratio of {f_number_ratio}, needed a positive number "
            "other than 1. Use 2 for two stops deeper, 0.5 for two stops shallower."
        )
    kind = TargetKind.DEEPER if f_number_ratio > 1 else TargetKind.SHALLOWER
    radius_px = capture.defocus_wide * MAX_RADIUS_PX / f_number_ratio
    return Target(f"{kind}-{f_number_ratio:g}x", kind, _as_map(radius_px))


def tilt_shift(
    capture: Capture,
    *,
    centre: tuple[float, float],
    half_height: float,
    angle_degrees: float,
    strength_px: float,
) -> Target:
    """A sharp band through ``centre`` = (x, y) pixels; blur grows on both sides of it.

    The band reaches ``half_height`` pixels from its middle line, which is turned clockwise by
    ``angle_degrees`` from horizontal; over another ``half_height`` the blur radius rises linearly
    to ``strength_px``.

    Raises:
        CaptureError: a number is not finite, ``half_height`` is not positive, or ``strength_px`` is
            outside (0, MAX_RADIUS_PX].
    """
    if not all(map(math.isfinite, (*centre, angle_degrees))) or not 0 < half_height < math.inf:
        raise CaptureError(
            f"Tilt-shift: got centre {centre}, half height {half_height}, angle {angle_degrees}, "
            "needed finite numbers and a positive half height. Correct them."
        )
    _check_radius("Tilt-shift", strength_px)
    height, width = capture.wide.shape[2:]
    y, x = np.mgrid[:height, :width]
    angle = math.radians(angle_degrees)
    from_line = np.abs((y - centre[1]) * math.cos(angle) - (x - centre[0]) * math.sin(angle))
    ramp = np.clip(from_line / half_height - 1, 0, 1)
    return Target("tilt-shift", TargetKind.TILT_SHIFT, _as_map(strength_px * ramp[None, None]))


def mask(capture: Capture, sharp: Image, blur_px: float) -> Target:
    """Sharp where the user's mask is 1, blurred by ``blur_px`` where it is 0, linear in between.

    ``sharp`` is float32 [0, 1] (1, 1, H, W).

    Raises:
        CaptureError: the mask has another shape, dtype or range, or ``blur_px`` is outside
            (0, MAX_RADIUS_PX].
    """
    needed = capture.defocus_wide.shape
    fits = sharp.shape == needed and sharp.dtype == np.float32
    if not fits or not (np.isfinite(sharp).all() and sharp.min() >= 0 and sharp.max() <= 1):
        raise CaptureError(
            f"Mask: got {sharp.dtype} {sharp.shape}, needed float32 {needed} in [0, 1]. "
            "Draw it at the wide picture's size."
        )
    _check_radius("Mask", blur_px)
    return Target("mask", TargetKind.MASK, _as_map(blur_px * (1 - sharp)))


def targets_of_every_kind(capture: Capture) -> tuple[Target, ...]:
    """The capture's own targets, and one with fixed parameters of each kind it lacks.

    Raises:
        CaptureError: a refocus target is missing and the capture has no depth to make one from.
    """
    present = {target.kind for target in capture.targets}
    missing = [kind for kind in TargetKind if kind not in present]
    return capture.targets + tuple(_typical(capture, kind) for kind in missing)


def _typical(capture: Capture, kind: TargetKind) -> Target:
    match kind:
        case TargetKind.ALL_IN_FOCUS:
            return all_in_focus(capture)
        case TargetKind.REFOCUS:
            return refocus_at_dioptres(capture, _far_from_focus(capture))
        case TargetKind.SHALLOWER:
            return depth_of_field(capture, 0.6)
        case TargetKind.DEEPER:
            return depth_of_field(capture, 2.0)
        case TargetKind.TILT_SHIFT:
            return _middle_band(capture)
        case TargetKind.MASK:
            return mask(capture, _ellipse(capture), 6.0)


def _far_from_focus(capture: Capture) -> float:
    """The scene's near or far end, whichever the wide picture shows blurrier, in dioptres."""
    inverse_depth, optics = _depth(capture)
    ends = np.percentile(inverse_depth, (10, 90))
    return float(max(ends, key=lambda end: abs(end - optics.focus_dioptres)))


def _middle_band(capture: Capture) -> Target:
    height, width = capture.wide.shape[2:]
    middle = ((width - 1) / 2, (height - 1) / 2)
    return tilt_shift(
        capture, centre=middle, half_height=height / 6, angle_degrees=0.0, strength_px=8.0
    )


def _ellipse(capture: Capture) -> Image:
    height, width = capture.wide.shape[2:]
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    inside: Image = (x**2 + y**2 < 0.25).astype(np.float32)[None, None]
    return inside


def _depth(capture: Capture) -> tuple[Image, Optics]:
    if capture.inverse_depth is None or capture.optics is None:
        raise CaptureError(
            f"Capture {capture.id}: got no inverse depth or optics, needed both to refocus. "
            "Store them with the capture, or store a refocus target."
        )
    return capture.inverse_depth, capture.optics


def _check_radius(what: str, radius_px: float) -> None:
    if not 0 < radius_px <= MAX_RADIUS_PX:
        raise CaptureError(
            f"{what}: got a blur radius of {radius_px} px, needed more than 0 and at most "
            f"{MAX_RADIUS_PX:.4g} px. Correct it."
        )


def _as_map(radius_px: npt.NDArray[np.floating]) -> Image:
    defocus: Image = np.clip(radius_px / MAX_RADIUS_PX, 0, 1).astype(np.float32)
    return defocus
