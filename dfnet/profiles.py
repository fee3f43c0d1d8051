"""Precisions, resolutions, and the table of phones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from dfnet.errors import UnsupportedError


class Precision(StrEnum):
    """Number formats of weights (w) and activations (a) inside an exported file."""

    FP32 = "fp32"
    FP16 = "fp16"
    W8 = "w8"
    """int8 weights, float arithmetic."""
    W8A8 = "w8a8"
    """Static int8 weights and activations: what the command line calls int8."""
    W8A16 = "w8a16"
    """int8 weights, int16 activations."""


@dataclass(frozen=True, order=True)
class Resolution:
    """Frame size in pixels; height always comes first."""

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise UnsupportedError(
                f"Resolution {self}: got a size below 1 pixel, needed positive sizes."
            )

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @property
    def megapixels(self) -> float:
        return self.height * self.width / 1e6

    @property
    def portrait(self) -> Resolution:
        """The same frame with its long side vertical."""
        return Resolution(max(self.height, self.width), min(self.height, self.width))

    def require_multiple_of(self, stride: int) -> Resolution:
        """Returns itself when both sides are multiples of ``stride`` pixels.

        Raises:
            UnsupportedError: names the nearest resolution that fits.
        """
        bad = [n for n in ("height", "width") if getattr(self, n) % stride]
        if bad:
            nearest = Resolution(
                *(max(stride, round(n / stride) * stride) for n in (self.height, self.width))
            )
            raise UnsupportedError(
                f"Resolution {self}: {' and '.join(bad)} must be a multiple of {stride}. "
                f"Nearest: {nearest}"
            )
        return self


RESOLUTIONS: dict[str, Resolution] = {
    "preview": Resolution(768, 1024),
    "hd": Resolution(720, 1280),
    "fhd": Resolution(1080, 1920),
    "paper": Resolution(2024, 2688),
}
"""Named landscape frames; append ``-portrait`` to a name for the upright frame.

``paper`` is the published frame size of DC2 (CVPR 2023), 2688 wide by 2024 high.
"""


def parse_resolution(text: str) -> Resolution:
    """A resolution from ``preview``, ``hd-portrait`` or ``HEIGHTxWIDTH`` (``768x1024``).

    Raises:
        UnsupportedError: lists the names when ``text`` is neither a name nor a size.
    """
    name, _, orientation = text.partition("-")
    if name in RESOLUTIONS and orientation in ("", "portrait"):
        found = RESOLUTIONS[name]
        return found.portrait if orientation else found
    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not size:
        raise UnsupportedError(
            f"Resolution {text!r} is unknown. Choose one of {', '.join(RESOLUTIONS)}, "
            "with -portrait for upright, or give HEIGHTxWIDTH such as 768x1024."
        )
    return Resolution(int(size[1]), int(size[2]))
