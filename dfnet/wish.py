"""What a person asks of a picture, as a target defocus map."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dfnet.capture import MAX_RADIUS_PX, Capture, Image, Target, TargetKind
from dfnet.defocus import (
    all_in_focus,
    defocus_map,
    depth_of_field,
    dioptres_at_pixel,
    refocus_at_pixel,
    tilt_shift,
)
from dfnet.errors import CaptureError, UnsupportedError

CAPTURED_F_STOP = 1.85
"""The f-number of the lens that took the shipped captures (``dfnet.photograph.WIDE``)."""

ALL_IN_FOCUS = "all-in-focus"
_TILT_BLUR_PX = 8.0


@dataclass(frozen=True)
class Wish:
    """One look of a picture. ``target`` is all-in-focus or a target stored with the capture.

    ``focus_at`` is a pixel (x, y); ``f_stop`` an f-number, against the ``captured_f_stop`` that
    the picture was taken with; ``tilt_shift`` is (y, half height) in pixels of a sharp level band.

    Raises:
        UnsupportedError: nothing is asked for, or two things that exclude each other.
    """

    target: str | None = None
    focus_at: tuple[int, int] | None = None
    f_stop: float | None = None
    tilt_shift: tuple[float, float] | None = None
    captured_f_stop: float = CAPTURED_F_STOP

    def __post_init__(self) -> None:
        sharp = {
            "a target": self.target,
            "a focus": self.focus_at,
            "tilt-shift": self.tilt_shift,
        }
        given = [name for name, value in sharp.items() if value is not None]
        if len(given) > 1:
            raise UnsupportedError(
                f"Refocus: got {' and '.join(given)}, needed one of them, because each says what "
                "is sharp. Drop the others."
            )
        if not given and self.f_stop is None:
            raise UnsupportedError(
                "Refocus: got nothing to do, needed --target, --focus-at, --f-stop or "
                "--tilt-shift. Give one."
            )
        if self.target is not None and self.f_stop is not None:
            raise UnsupportedError(
                f"Refocus: got the target {self.target} and an f-stop, needed one of them, because "
                "a target has its own blur. Drop one."
            )
        for what, value in (("f-stop", self.f_stop), ("captured f-stop", self.captured_f_stop)):
            if value is not None and not 0.5 <= value <= 64:
                raise UnsupportedError(
                    f"Refocus: got the {what} {value}, needed 0.5 to 64. Correct it."
                )

    def target_of(self, capture: Capture) -> Target:
        """The target map for ``capture``.

        Raises:
            CaptureError: an unknown target, a place outside the picture, or no depth to refocus.
        """
        if self.target is not None:
            return _named(capture, self.target)
        if self.tilt_shift is not None:
            return self._band(capture, *self.tilt_shift)
        if self.focus_at is None:
            return _same(capture) if self._ratio == 1 else depth_of_field(capture, self._ratio)
        return self._refocused(capture, *self.focus_at)

    @property
    def _ratio(self) -> float:
        return 1.0 if self.f_stop is None else self.f_stop / self.captured_f_stop

    def _refocused(self, capture: Capture, x: int, y: int) -> Target:
        moved = refocus_at_pixel(capture, x, y)
        if self._ratio == 1 or capture.inverse_depth is None or capture.optics is None:
            return moved
        optics = replace(
            capture.optics,
            blur_px_per_dioptre=capture.optics.blur_px_per_dioptre / self._ratio,
            focus_dioptres=dioptres_at_pixel(capture, x, y),
        )
        return replace(moved, defocus=defocus_map(capture.inverse_depth, optics))

    def _band(self, capture: Capture, y: float, half_height: float) -> Target:
        height, width = capture.wide.shape[2:]
        if not 0 <= y < height:
            raise CaptureError(
                f"Tilt-shift: got the row {y:g}, needed 0 to {height - 1}. Choose one of them."
            )
        return tilt_shift(
            capture,
            centre=((width - 1) / 2, y),
            half_height=half_height,
            angle_degrees=0.0,
            strength_px=min(MAX_RADIUS_PX, _TILT_BLUR_PX / self._ratio),
        )


def truth_of(capture: Capture, target: Target) -> Image | None:
    """The true rendering of exactly this target map, where the capture holds it."""
    for stored in capture.targets:
        if stored.truth is not None and np.array_equal(stored.defocus, target.defocus):
            return stored.truth
    return None


def _named(capture: Capture, name: str) -> Target:
    for target in capture.targets:
        if target.name == name:
            return target
    if name == ALL_IN_FOCUS:
        return all_in_focus(capture)
    names = dict.fromkeys((ALL_IN_FOCUS, *(target.name for target in capture.targets)))
    raise CaptureError(
        f"Target {name!r} is not one of capture {capture.id}. Choose one of {', '.join(names)}."
    )


def _same(capture: Capture) -> Target:
    """The aperture and the focus that the picture was taken with."""
    return Target("as-captured", TargetKind.DEEPER, capture.defocus_wide)
