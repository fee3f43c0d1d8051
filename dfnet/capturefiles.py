"""The picture files of one capture: encode, decode, hash. dfnet.captureset lists the files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from dfnet.capture import MAX_DIOPTRES, Capture, Image, Optics, Target
from dfnet.capturemanifest import CaptureEntry
from dfnet.errors import CaptureError

Stored = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""A picture as its file holds it: uint8 (H, W, 3), uint8 (H, W) or uint16 (H, W)."""

_MODES = {"wide": "RGB", "ultrawide": "RGB"} | dict.fromkeys(
    ("defocus_wide", "defocus_ultrawide", "occlusion"), "L"
)
_DEPTH = "inverse_depth"
_STEPS = {"RGB": 255.0, "L": 255.0, "I;16": 65535 / MAX_DIOPTRES}
"""What 1.0 in memory is on disk, by Pillow mode."""

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Pillow.DecompressionBombError)
"""What Pillow raises on truncated or corrupt files."""


def capture_sha256(capture: Capture) -> str:
    """Hex sha256 of the stored pictures' names, dtypes, shapes and values, of the optics and of
    the targets' kinds.

    PNG compression has no part in it, so any zlib gives the same hash.
    """
    optics = _plain(capture.optics)
    kinds = {target.name: target.kind for target in capture.targets}
    facts = {"optics": optics and asdict(optics), "kinds": kinds}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, picture in sorted(_encode(capture).items()):
        # Big-endian machines hold uint16 the other way round.
        ordered = picture.astype(picture.dtype.newbyteorder("<"))
        digest.update(f"\0{name} {picture.dtype.name} {picture.shape}\0".encode())
        digest.update(ordered.tobytes())
    return digest.hexdigest()


def write_pictures(folder: Path, capture: Capture) -> None:
    """Writes every picture of ``capture`` into ``folder``, which is created.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in _encode(capture).items():
        Pillow.fromarray(picture).save(folder / f"{name}.png", format="PNG", optimize=True)


def read_capture(folder: Path, entry: CaptureEntry) -> Capture:
    """The capture whose pictures are in ``folder``, verified against ``entry``.

    Raises:
        CaptureError: a picture is missing, corrupt, of other channels or size, or was altered.
    """
    capture = Capture(
        id=entry.id,
        **{name: _read(folder / f"{name}.png", mode) for name, mode in _MODES.items()},
        targets=tuple(
            Target(
                name=target.name,
                kind=target.kind,
                defocus=_read(folder / f"target-{target.name}.png", "L"),
                truth=_read(folder / f"truth-{target.name}.png", "RGB")
                if target.has_truth
                else None,
            )
            for target in entry.targets
        ),
        inverse_depth=_read(folder / f"{_DEPTH}.png", "I;16") if entry.has_inverse_depth else None,
        optics=entry.optics,
    )
    check_hash(capture, entry)
    return capture


def check_hash(capture: Capture, entry: CaptureEntry) -> None:
    """Checks that ``capture`` is the one that ``entry`` lists.

    Raises:
        CaptureError: its hash is another.
    """
    got = capture_sha256(capture)
    if got != entry.sha256:
        mend = "Run `make setup`." if entry.provenance.derived else "Restore its original files."
        raise CaptureError(
            f"Capture {capture.id}: got sha256 {got[:12]}, needed {entry.sha256[:12]}; pictures "
            f"or optics are not those the manifest lists. {mend}"
        )


def _encode(capture: Capture) -> dict[str, Stored]:
    """Stored pictures by file stem."""
    pictures = {name: _to_stored(getattr(capture, name), mode) for name, mode in _MODES.items()}
    if capture.inverse_depth is not None:
        pictures[_DEPTH] = _to_stored(capture.inverse_depth, "I;16")
    for target in capture.targets:
        pictures[f"target-{target.name}"] = _to_stored(target.defocus, "L")
        if target.truth is not None:
            pictures[f"truth-{target.name}"] = _to_stored(target.truth, "RGB")
    return pictures


def _to_stored(image: Image, mode: str) -> Stored:
    codes = np.rint(image[0].astype(np.float64) * _STEPS[mode])
    pixels = np.ascontiguousarray(codes.transpose(1, 2, 0) if mode == "RGB" else codes[0])
    return pixels.astype(np.uint16) if mode == "I;16" else pixels.astype(np.uint8)


def _read(path: Path, mode: str) -> Image:
    stored = decode_picture(path, mode)
    planes = stored.transpose(2, 0, 1) if stored.ndim == 3 else stored[None]
    return np.ascontiguousarray(planes[None].astype(np.float32) / np.float32(_STEPS[mode]))


def decode_picture(path: Path, mode: str) -> Stored:
    """The pixels of a PNG of Pillow's ``mode``.

    Raises:
        CaptureError: it is missing, corrupt, or of another mode.
    """
    try:
        with Pillow.open(path, formats=["PNG"]) as picture:
            picture.load()
            if picture.mode != mode:
                raise CaptureError(
                    f"Picture {path}: got {picture.mode} pixels, needed {mode}. "
                    "Save it as PNG with these channels."
                )
            return np.asarray(picture)
    except FileNotFoundError as error:
        raise CaptureError(
            f"Picture {path} is missing, but its manifest lists it. Restore the capture's folder."
        ) from error
    except _UNREADABLE as error:
        raise CaptureError(
            f"Picture {path}: cannot be decoded ({_reason(error)}), needed a whole PNG file. "
            "Restore it from the original."
        ) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a PNG"
    return " ".join(str(error).split()) or type(error).__name__


def _plain(optics: Optics | None) -> Optics | None:
    """``optics`` with Python floats, which have one text form."""
    if optics is None:
        return None
    return Optics(float(optics.blur_px_per_dioptre), float(optics.focus_dioptres))
