"""One dual-camera capture and its target renderings, in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from dfnet.errors import CaptureError
from dfnet.signature import STRIDE, Feed

Image = npt.NDArray[np.float32]
"""float32 [0, 1] of shape (1, C, H, W)."""

MAX_RADIUS_PX = 255 / 16
"""Blur radius at which a defocus map reads 1.0. On disk a map is 8-bit, radius * 16."""

MAX_DIOPTRES = 65535 / 8192
"""Largest inverse depth (nearest distance 12.5 cm). On disk it is 16-bit, dioptres * 8192."""


class Split(StrEnum):
    """What a capture may be used for; reported figures come from ``held_out`` alone."""

    TRAINING = "training"
    CALIBRATION = "calibration"
    VALIDATION = "validation"
    HELD_OUT = "held_out"


class TargetKind(StrEnum):
    """What a target defocus map asks for."""

    ALL_IN_FOCUS = "all-in-focus"
    REFOCUS = "refocus"
    SHALLOWER = "shallower"
    DEEPER = "deeper"
    TILT_SHIFT = "tilt-shift"
    MASK = "mask"


@dataclass(frozen=True)
class Target:
    """A target defocus map (1, 1, H, W) in [0, 1] and, where it is known, the true rendering."""

    name: str
    kind: TargetKind
    defocus: Image
    truth: Image | None = None


@dataclass(frozen=True)
class Optics:
    """The wide camera's focus state, in pixels of the capture and dioptres (1/m).

    ``blur_px_per_dioptre`` is the blur-circle radius in pixels that one dioptre of defocus gives
    (half the aperture times the focal length in pixels; see dfnet.defocus).
    """

    blur_px_per_dioptre: float
    focus_dioptres: float

    def __post_init__(self) -> None:
        values = (self.blur_px_per_dioptre, self.focus_dioptres)
        if not all(map(math.isfinite, values)) or min(values) < 0 or values[0] == 0:
            raise CaptureError(
                f"Optics: got {self.blur_px_per_dioptre} px per dioptre focused at "
                f"{self.focus_dioptres} dioptres, needed a positive and a non-negative number."
            )


@dataclass(frozen=True)
class Capture:
    """Wide and aligned, colour-matched ultra-wide pictures with what the network needs to know.

    All images are float32 [0, 1] NCHW with N = 1 and one common size, a multiple of the
    network's stride. Defocus maps are unsigned blur radius / MAX_RADIUS_PX; ``occlusion`` is 1
    where the ultra-wide camera does not see the wide camera's point. ``inverse_depth`` (dioptres
    in [0, MAX_DIOPTRES], (1, 1, H, W)) and ``optics`` allow new target maps to be computed; they
    may be absent.

    Raises:
        CaptureError: an image has another shape, dtype or range, or two targets share a name.
    """

    id: str
    wide: Image
    ultrawide: Image
    defocus_wide: Image
    defocus_ultrawide: Image
    occlusion: Image
    targets: tuple[Target, ...]
    inverse_depth: Image | None = None
    optics: Optics | None = None

    def __post_init__(self) -> None:
        if self.wide.ndim != 4 or 0 in self.wide.shape:
            raise CaptureError(
                f"Capture {self.id}, wide: got shape {self.wide.shape}, needed (1, 3, height, "
                "width). Convert the picture to NCHW."
            )
        height, width = self.wide.shape[2:]
        if height % STRIDE or width % STRIDE:
            raise CaptureError(
                f"Capture {self.id}: got {height}x{width} pixels, needed multiples of {STRIDE}. "
                "Crop the pictures."
            )
        for name, channels in _CHANNELS.items():
            self._check(name, getattr(self, name), channels)
        if self.inverse_depth is not None:
            self._check("inverse_depth", self.inverse_depth, 1, highest=MAX_DIOPTRES)
        for target in self.targets:
            self._check(f"target {target.name}", target.defocus, 1)
            if target.truth is not None:
                self._check(f"truth of {target.name}", target.truth, 3)
        names = [target.name for target in self.targets]
        if len(set(names)) < len(names):
            raise CaptureError(
                f"Capture {self.id}: got targets {names}, needed distinct names. Rename them."
            )

    def _check(self, name: str, image: Image, channels: int, *, highest: float = 1.0) -> None:
        needed = (1, channels, *self.wide.shape[2:])
        if image.dtype != np.float32 or image.shape != needed:
            raise CaptureError(
                f"Capture {self.id}, {name}: got {image.dtype} {image.shape}, needed float32 "
                f"{needed} like the wide picture."
            )
        if not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= highest):
            raise CaptureError(
                f"Capture {self.id}, {name}: got values outside [0, {highest:g}] or not finite. "
                "Scale them into this range."
            )

    def feed(self, target: Target) -> Feed:
        """The network's inputs for one target."""
        return {
            "wide": self.wide,
            "ultrawide": self.ultrawide,
            "defocus_wide": self.defocus_wide,
            "defocus_ultrawide": self.defocus_ultrawide,
            "defocus_target": target.defocus,
            "occlusion": self.occlusion,
        }


_CHANNELS = {
    "wide": 3,
    "ultrawide": 3,
    "defocus_wide": 1,
    "defocus_ultrawide": 1,
    "occlusion": 1,
}
