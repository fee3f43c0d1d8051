"""Pictures of a report page: each embedded once, by its hash, within a bound of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from benchmarks.exhibits import ERRORS, PICTURES, Exhibit, error_of, read_kept

BUDGET = 9_000_000
"""Most bytes of pictures in a page, before base64 adds a third."""

MAP = "RdBu_r"
"""Blue, white, red (ColorBrewer): told apart with every common kind of colour blindness."""

_HALF = 127
"""A heatmap has this many steps on either side of zero."""


@dataclass(frozen=True)
class Heat:
    """One way to look at errors: which, and how much they are amplified. Full colour stands at
    1/``gain`` of the range."""

    key: str
    label: str
    role: str
    gain: int


HEATS = (
    Heat("float-16", "file \N{MINUS SIGN} float, \N{MULTIPLICATION SIGN}16", ERRORS[0], 16),
    Heat("float-128", "file \N{MINUS SIGN} float, \N{MULTIPLICATION SIGN}128", ERRORS[0], 128),
    Heat("truth-16", "file \N{MINUS SIGN} truth, \N{MULTIPLICATION SIGN}16", ERRORS[1], 16),
)


@dataclass(frozen=True)
class Shown:
    """One exhibit on the page: keys of its pictures by role or heat, and what is missing.
    ``first`` is the heatmap to begin with: the least amplified one that is not nearly blank."""

    exhibit: Exhibit
    keys: dict[str, str]
    missing: tuple[str, ...]
    first: Heat = HEATS[0]


@dataclass
class Album:
    """Collects what a page embeds; ``pictures`` are data URLs by key."""

    budget: int = BUDGET
    pictures: dict[str, str] = field(default_factory=dict)
    _used: int = 0

    def add(self, folder: Path, exhibit: Exhibit) -> Shown:
        """Takes an exhibit in, whole as far as its pictures are readable and the bound allows."""
        found: dict[str, tuple[str, bytes]] = {}
        encoded: dict[str, bytes] = {}
        missing = []
        for role in (*PICTURES, *ERRORS):
            kept = exhibit.pictures.get(role)
            data = read_kept(folder, kept) if kept else f"no {role} picture was kept"
            if isinstance(data, str):
                missing.append(data)
            elif role in PICTURES:
                found[role] = ("image/webp", data)
            else:
                encoded[role] = data
                found |= _heats(role, data)
        keyed = {name: (_key(data), kind, data) for name, (kind, data) in found.items()}
        new = {key: (kind, data) for key, kind, data in keyed.values() if key not in self.pictures}
        size = sum(len(data) for _, data in new.values())
        if self._used + size > self.budget:
            said = f"left out: the page holds at most {self.budget / 1e6:.0f} MB of pictures"
            return Shown(exhibit, {}, (*missing, f"{said}; they are in {folder}"))
        self._used += size
        self.pictures |= {key: _data_url(kind, data) for key, (kind, data) in new.items()}
        keys = {name: key for name, (key, _, _) in keyed.items()}
        faint = ERRORS[0] in encoded and _is_faint(error_of(encoded[ERRORS[0]]))
        return Shown(exhibit, keys, tuple(missing), HEATS[1] if faint else HEATS[0])


def _heats(role: str, encoded: bytes) -> Mapping[str, tuple[str, bytes]]:
    errors = error_of(encoded)
    return {
        heat.key: ("image/png", heatmap(errors, heat.gain)) for heat in HEATS if heat.role == role
    }


def _is_faint(errors: npt.NDArray[np.float64]) -> bool:
    """Whether 99 of 100 errors stay below full colour at the next gain."""
    return bool(np.percentile(np.abs(errors), 99) < 1 / HEATS[1].gain)


def heatmap(errors: npt.NDArray[np.float64], gain: int) -> bytes:
    """Signed errors (H, W) as a PNG: white is none, full colour 1/``gain`` or more."""
    indices = np.rint(np.clip(errors * gain, -1, 1) * _HALF) + _HALF
    picture = Pillow.fromarray(indices.astype(np.uint8), "P")
    picture.putpalette(_palette().tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _palette() -> npt.NDArray[np.uint8]:
    """(255, 3): index 127 stands for no error."""
    steps = np.linspace(0, 1, 2 * _HALF + 1)
    colours: npt.NDArray[np.uint8] = np.rint(matplotlib.colormaps[MAP](steps)[:, :3] * 255).astype(
        np.uint8
    )
    return colours


def gradient() -> str:
    """The colours of a heatmap from most negative to most positive, for CSS."""
    stops = _palette()[np.linspace(0, 2 * _HALF, 17).round().astype(int)]
    return ", ".join(f"rgb({r} {g} {b})" for r, g, b in stops.tolist())


def _key(data: bytes) -> str:
    return sha256(data).hexdigest()[:20]


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
