"""The table of phones: what ``--device`` stands for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from dfnet.errors import UnsupportedError
from dfnet.profiles import RESOLUTIONS, Resolution


@dataclass(frozen=True)
class DeviceProfile:
    """A phone with a wide and an ultra-wide camera.

    ``wide_photo`` is the landscape frame of a full photo from the wide camera, in pixels.
    ``shipped`` names the frames of ``RESOLUTIONS`` to export for this phone; each fits inside
    ``wide_photo``. ``accelerators`` are what this project's files can reach on it. ``budget_ms``
    is the allowed time per inference by name of frame, None where no source gives one.
    ``source`` says where the chip and the photo's size come from.
    """

    name: str
    platform: Literal["ios", "android"]
    soc: str
    wide_photo: Resolution
    shipped: tuple[str, ...]
    accelerators: tuple[str, ...]
    budget_ms: dict[str, float | None]
    source: str

    def __post_init__(self) -> None:
        if not (self.shipped and self.accelerators and self.source):
            raise UnsupportedError(
                f"Device {self.name}: got no resolution, accelerator or source, needed each. "
                "Complete its row."
            )
        if set(self.budget_ms) != set(self.shipped):
            raise UnsupportedError(
                f"Device {self.name}: got budgets for {sorted(self.budget_ms)}, needed "
                f"{sorted(self.shipped)}. Give None where none is known."
            )
        for name in self.shipped:
            self._check_frame(name)

    def _check_frame(self, name: str) -> None:
        frame = RESOLUTIONS.get(name)
        photo = self.wide_photo
        if frame is None or frame.height > photo.height or frame.width > photo.width:
            raise UnsupportedError(
                f"Device {self.name}: got resolution {name!r} ({frame}), needed one of "
                f"{', '.join(RESOLUTIONS)} within its photo of {photo}. Change its row."
            )

    @property
    def resolutions(self) -> tuple[Resolution, ...]:
        """The frames to export for this phone, landscape."""
        return tuple(RESOLUTIONS[name] for name in self.shipped)


_12MP = Resolution(3024, 4032)
_24MP = Resolution(4284, 5712)
_48MP = Resolution(6048, 8064)
_PIXEL = Resolution(3072, 4080)
_SAMSUNG = Resolution(3000, 4000)

_SIZES = "photo: knowyourmobile.com, 'iPhone Camera Quality and Resolution: A Complete Guide'"
_CHIPS = "chip: argmaxinc/whisperkit-benchmarks, dashboard_data/iPhone.json"
_IPHONE_13 = f"{_SIZES}; chip: macitynet.it, 'La GPU dell'iPhone 13 Pro ha un core in più'"
_IPHONE_14 = f"{_SIZES}; {_CHIPS}"
_IPHONE_15_PRO = f"photo: a camera calibration's report (5712x4284, 24 MP, the default); {_CHIPS}"
_PIXEL_8 = (
    "chip and 12.5 MP photos: dpreview.com, 'Google Pixel 8, Pixel 8 Pro review'; pixels: "
    "4080x3072 read from the camera of a Pixel 8 Pro, whose wide sensor both phones have"
)
_PIXEL_9 = (
    "chip: Wikipedia, 'Pixel 9'; photo: read from the camera of a Pixel 9, 50 MP binned 2x2 to "
    "4080x3072"
)
_S23_ULTRA = (
    "chip: mikeshouts.com, 'Samsung Galaxy S23 Series revealed'; photo: sammobile.com, 12 MP by "
    "default, and androidheadlines.com, 3000x4000 pixels"
)


def _row(name: str, soc: str, wide_photo: Resolution, source: str) -> DeviceProfile:
    """A phone that ships the preview and, for the saved picture, the published frame."""
    apple = name.startswith("iPhone")
    shipped = ("preview", "paper")
    return DeviceProfile(
        name=name,
        platform="ios" if apple else "android",
        soc=soc,
        wide_photo=wide_photo,
        shipped=shipped,
        accelerators=("CPU", "GPU", "Neural Engine") if apple else ("CPU",),
        budget_ms=dict.fromkeys(shipped),
        source=source,
    )


DEVICES: dict[str, DeviceProfile] = {
    row.name: row
    for row in (
        _row("iPhone 13 mini", "Apple A15 Bionic", _12MP, _IPHONE_13),
        _row("iPhone 13", "Apple A15 Bionic", _12MP, _IPHONE_13),
        _row("iPhone 13 Pro", "Apple A15 Bionic", _12MP, _IPHONE_13),
        _row("iPhone 14", "Apple A15 Bionic", _12MP, _IPHONE_14),
        _row("iPhone 14 Plus", "Apple A15 Bionic", _12MP, _IPHONE_14),
        _row("iPhone 14 Pro", "Apple A16 Bionic", _48MP, _IPHONE_14),
        _row("iPhone 15 Pro", "Apple A17 Pro", _24MP, _IPHONE_15_PRO),
        _row("Pixel 8", "Google Tensor G3", _PIXEL, _PIXEL_8),
        _row("Pixel 8 Pro", "Google Tensor G3", _PIXEL, _PIXEL_8),
        _row("Pixel 9", "Google Tensor G4", _PIXEL, _PIXEL_9),
        _row("Galaxy S23 Ultra", "Snapdragon 8 Gen 2 for Galaxy", _SAMSUNG, _S23_ULTRA),
    )
}
"""Phones by name. Only those whose chip and photo size could be looked up."""


def find_device(name: str) -> DeviceProfile:
    """The phone called ``name``; capitals do not matter.

    Raises:
        UnsupportedError: lists the phones, the most similar first.
    """
    wanted = name.strip().casefold()
    for known, profile in DEVICES.items():
        if known.casefold() == wanted:
            return profile
    by_likeness = sorted(
        DEVICES, key=lambda known: -difflib.SequenceMatcher(None, known.casefold(), wanted).ratio()
    )
    raise UnsupportedError(
        f"Device {name!r} is unknown. Choose one of {', '.join(by_likeness)}, or give --resolution."
    )
