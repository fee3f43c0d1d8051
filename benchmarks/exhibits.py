"""Pictures kept when a file is judged, so that a report can show what its numbers mean.

    <artifacts>/results/pictures/<artifact sha256>/<resolution>/<n>.<role>.webp

Chosen are the capture and target that lose most, those that lose least, and the worst of every
target not among them: at most ``MOST`` exhibits of at most ``SIDE_PX`` squared pixels, which is
below 7 MB a file. Everything is lossless. The checks beside them list every picture's hash, so
that a picture of another file or judgement is never taken for this one's.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from benchmarks.mosaic import Mosaic, Tile
from benchmarks.parity import finite_db
from benchmarks.quality import TileQuality
from dfnet.artifact import staged_folder
from dfnet.capture import Image
from dfnet.manifest import Manifest
from dfnet.metrics import worst_tile

MOST = 6
SIDE_PX = 256
TILE_PX = 64
"""Side of the square in which a file is furthest from the float network."""

PICTURES = ("wide", "float", "file", "truth")
ERRORS = ("error-float", "error-truth")
"""The file's output minus the float network's, and minus the truth: of the three channels the one
that is off most, with its sign."""

_ERROR_CODES = 32767
_Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Kept:
    """A picture in the results folder, by its name, hash and size."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Exhibit:
    """One capture and target, with its pictures by role (``PICTURES`` and ``ERRORS``).

    ``top`` and ``left`` are where the pictures begin in the capture. ``tile`` is the square of
    ``TILE_PX`` that is furthest from the float network, ``tile_db`` how far; its ``tile_y`` and
    ``tile_x`` count from the pictures' top left.
    """

    capture: str
    target: str
    kind: str
    reasons: tuple[str, ...]
    top: int
    left: int
    height: int
    width: int
    tile_db: float
    tile_y: int
    tile_x: int
    pictures: dict[str, Kept]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        pictures = {role: Kept(**kept) for role, kept in data["pictures"].items()}
        return cls(**{**data, "reasons": tuple(data["reasons"]), "pictures": pictures})


def pictures_folder(results: Path, manifest: Manifest) -> Path:
    """Where the pictures of one file at its resolution are kept in the ``results`` folder."""
    return results / "pictures" / manifest.artifact_sha256 / str(manifest.resolution)


def keep_exhibits(
    folder: Path,
    mosaics: Sequence[Mosaic],
    floats: Sequence[Image],
    outputs: Sequence[Image],
    scores: Sequence[TileQuality],
) -> tuple[Exhibit, ...]:
    """Writes the pictures of the most telling tiles to ``folder``, all or none.

    ``scores`` are the tiles' of the mosaics, in order.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    reasons = choose(scores)
    tiles = [
        (mosaic, tile, reference, output)
        for mosaic, reference, output in zip(mosaics, floats, outputs, strict=True)
        for tile in mosaic.tiles
    ]
    with staged_folder(folder) as scratch:
        return tuple(
            _keep(scratch, number, *tiles[index], reasons=why)
            for number, (index, why) in enumerate(reasons.items())
        )


def choose(scores: Sequence[TileQuality]) -> dict[int, tuple[str, ...]]:
    """Which tiles to show, by index, and why: the one with the largest drop comes first."""
    worst_first = sorted(range(len(scores)), key=lambda i: -scores[i].drop_db)
    chosen: dict[int, tuple[str, ...]] = {worst_first[0]: ("largest drop",)}
    best = worst_first[-1]
    chosen[best] = (*chosen.get(best, ()), "smallest drop")
    for index in worst_first:
        target = scores[index].target
        if target not in {scores[i].target for i in chosen}:
            chosen[index] = (f"largest drop of {target}",)
    return dict(list(chosen.items())[:MOST])


def _keep(
    folder: Path,
    number: int,
    mosaic: Mosaic,
    tile: Tile,
    reference: Image,
    output: Image,
    *,
    reasons: tuple[str, ...],
) -> Exhibit:
    whole = {
        "wide": tile.crop(mosaic.feed["wide"]),
        "float": tile.crop(reference),
        "file": tile.crop(output),
        "truth": tile.crop(mosaic.truth),
    }
    worst = worst_tile(whole["float"], whole["file"], tile=TILE_PX)
    top = _start(worst.y, tile.height)
    left = _start(worst.x, tile.width)
    shown = {
        role: picture[0, :, top : top + SIDE_PX, left : left + SIDE_PX].transpose(1, 2, 0)
        for role, picture in whole.items()
    }
    height, width, _ = shown["file"].shape
    return Exhibit(
        capture=tile.capture,
        target=mosaic.target,
        kind=str(mosaic.kind),
        reasons=reasons,
        top=top,
        left=left,
        height=height,
        width=width,
        tile_db=finite_db(worst.psnr_db),
        tile_y=worst.y - top,
        tile_x=worst.x - left,
        pictures=_write(folder, number, shown),
    )


def _start(worst: int, length: int) -> int:
    """Where to cut, so that the worst square is as near to the middle as the borders allow."""
    return max(0, min(worst + TILE_PX // 2 - SIDE_PX // 2, length - SIDE_PX))


def _write(folder: Path, number: int, shown: Mapping[str, _Array]) -> dict[str, Kept]:
    encoded = {f"{number}.{role}.webp": _picture(shown[role]) for role in PICTURES}
    for role, base in zip(ERRORS, ("float", "truth"), strict=True):
        encoded[f"{number}.{role}.png"] = _error(shown["file"] - shown[base])
    kept = {}
    for name, data in encoded.items():
        (folder / name).write_bytes(data)
        kept[name.split(".")[1]] = Kept(name, sha256(data).hexdigest(), len(data))
    return kept


def _picture(picture: _Array) -> bytes:
    """8 bits a channel, as a screen shows it."""
    codes = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    Pillow.fromarray(codes).save(stream, "WEBP", lossless=True, quality=80, method=4)
    return stream.getvalue()


def _error(difference: _Array) -> bytes:
    """Signed errors in [-1, 1] in 16 bits; see ``error_of``."""
    furthest = np.abs(difference).argmax(axis=2, keepdims=True)
    signed = np.take_along_axis(difference, furthest, axis=2)[..., 0]
    codes = np.rint(np.clip(signed, -1, 1) * _ERROR_CODES) + _ERROR_CODES
    stream = io.BytesIO()
    Pillow.fromarray(codes.astype(np.uint16)).save(stream, "PNG", compress_level=9)
    return stream.getvalue()


def error_of(encoded: bytes) -> npt.NDArray[np.float64]:
    """The signed errors (H, W) of a picture in one of the roles ``ERRORS``, exact to 2e-5."""
    with Pillow.open(io.BytesIO(encoded)) as picture:
        codes = np.asarray(picture, dtype=np.float64)
    return (codes - _ERROR_CODES) / _ERROR_CODES


def exhibits_of(details: Mapping[str, Any]) -> tuple[Exhibit, ...]:
    """The exhibits that a file's checks list; none where nothing ran, or where another version
    listed them."""
    try:
        return tuple(map(Exhibit.from_json, details.get("exhibits", ())))
    except (TypeError, KeyError, AttributeError):
        return ()


def read_kept(folder: Path, kept: Kept) -> bytes | str:
    """The picture ``kept`` in ``folder``, or why it must not be shown."""
    try:
        data = (folder / kept.file).read_bytes()
    except OSError as error:
        return f"{kept.file} cannot be read ({error.strerror or error})"
    if sha256(data).hexdigest() != kept.sha256:
        return f"{kept.file} is not the picture that was judged"
    return data


def are_whole(folder: Path, exhibits: Sequence[Exhibit]) -> bool:
    """Whether every picture is there, and is the one that was judged."""
    return all(
        isinstance(read_kept(folder, kept), bytes)
        for exhibit in exhibits
        for kept in exhibit.pictures.values()
    )
