"""Capture sets on disk: lossless pictures and a manifest with hashes, split, sources, licence.

    <root>/manifest.json                    see dfnet.capturemanifest
    <root>/<id>/wide.png, ultrawide.png     8-bit RGB; in memory x / 255
    <root>/<id>/defocus_wide.png, defocus_ultrawide.png, occlusion.png    8-bit grey; x / 255
    <root>/<id>/inverse_depth.png           16-bit grey, optional; dioptres = x / 8192
    <root>/<id>/target-<name>.png           8-bit grey; a target defocus map
    <root>/<id>/truth-<name>.png            8-bit RGB, optional; the true rendering of a target

Identity is a hash of decoded pictures, so that another PNG compressor changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from dfnet.artifact import staged_folder
from dfnet.capture import Capture, Split
from dfnet.capturefiles import capture_sha256, check_hash, read_capture, write_pictures
from dfnet.capturemanifest import (
    MANIFEST_NAME,
    CaptureEntry,
    CaptureManifest,
    Provenance,
    TargetEntry,
    read_manifest,
)
from dfnet.errors import CaptureError


@dataclass(frozen=True)
class CaptureItem:
    """A capture to be written, and where it comes from."""

    capture: Capture
    provenance: Provenance


@dataclass(frozen=True)
class CaptureSet:
    """Captures of one split in a folder; pictures are read, and checked, on ``load``."""

    root: Path
    manifest: CaptureManifest

    @property
    def split(self) -> Split:
        return self.manifest.split

    @property
    def ids(self) -> tuple[str, ...]:
        """Capture ids in the manifest's order."""
        return tuple(entry.id for entry in self.manifest.captures)

    @property
    def sha256(self) -> str:
        """Identity of the set: its split and every capture's id and hash, in any order."""
        pairs = sorted((entry.id, entry.sha256) for entry in self.manifest.captures)
        return hashlib.sha256(json.dumps([self.split, pairs]).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.manifest.captures)

    def __iter__(self) -> Iterator[Capture]:
        return map(self.load, self.ids)

    def entry(self, capture_id: str) -> CaptureEntry:
        """The manifest's row of one capture.

        Raises:
            CaptureError: lists the ids when ``capture_id`` is unknown.
        """
        for entry in self.manifest.captures:
            if entry.id == capture_id:
                return entry
        raise CaptureError(
            f"Capture {capture_id!r} is not in {self.root}. Choose one of {', '.join(self.ids)}."
        )

    def load(self, capture_id: str) -> Capture:
        """One capture, verified against its hash.

        Raises:
            CaptureError: unknown id; a missing, corrupt or altered picture; sizes that differ.
        """
        entry = self.entry(capture_id)
        folder = self.root / entry.id
        if entry.provenance.derived and not folder.exists():
            raise CaptureError(
                f"Capture {capture_id}: got no pictures in {folder}, because they are not stored "
                "but derived from a pinned package. Run `make setup`."
            )
        return read_capture(folder, entry)

    def missing_derived(self) -> tuple[str, ...]:
        """Ids of derived captures whose pictures are not there yet."""
        return tuple(
            entry.id
            for entry in self.manifest.captures
            if entry.provenance.derived and not (self.root / entry.id).exists()
        )

    def take(self, count: int) -> CaptureSet:
        """The first ``count`` captures as a set of its own, with its own hash.

        Raises:
            CaptureError: ``count`` is below 1 or above the number of captures.
        """
        if not 1 <= count <= len(self):
            raise CaptureError(
                f"Capture set {self.root}: got a request for {count} captures, needed 1 to "
                f"{len(self)}. Ask for fewer."
            )
        return self.select(self.ids[:count])

    def select(self, ids: Sequence[str]) -> CaptureSet:
        """The captures called ``ids``, in that order, as a set of its own, with its own hash.

        Raises:
            CaptureError: no id, an unknown one, or one twice.
        """
        if not ids or len(set(ids)) < len(ids):
            raise CaptureError(
                f"Capture set {self.root}: got the ids {list(ids)}, needed some once."
            )
        chosen = tuple(map(self.entry, ids))
        return CaptureSet(self.root, CaptureManifest(self.split, self.manifest.licence, chosen))


def open_captures(root: Path) -> CaptureSet:
    """The capture set in ``root``; reads its manifest only.

    Raises:
        CaptureError: no manifest, or one that is not JSON, of another schema, without captures,
            with duplicate or hostile ids, or of an unknown split.
    """
    return CaptureSet(root, read_manifest(root / MANIFEST_NAME))


def write_captures(
    root: Path, split: Split, items: Sequence[CaptureItem], *, licence: str
) -> CaptureSet:
    """Writes a capture set, whole or not at all, replacing the one in ``root``.

    Pictures are rounded to 8 bits, inverse depth to 16. ``licence`` covers the set; each item
    names its own as well.

    Raises:
        CaptureError: no items, duplicate or hostile names, or ``root`` holds something else.
        ArtifactError: ``root`` cannot be written.
    """
    try:
        manifest = CaptureManifest(split, licence, tuple(map(_entry_of, items)))
    except CaptureError as error:
        raise CaptureError(f"Capture set {root}: {error}") from error
    _refuse_other_folder(root)
    with staged_folder(root) as scratch:
        for item in items:
            write_pictures(scratch / item.capture.id, item.capture)
        (scratch / MANIFEST_NAME).write_text(manifest.to_text(), encoding="utf-8")
    return CaptureSet(root, manifest)


def write_capture_files(root: Path, capture: Capture) -> None:
    """Writes the pictures of one capture that the manifest in ``root`` already lists.

    This is how derived captures come to be: setup renders them, and here their hash is checked.

    Raises:
        CaptureError: ``capture`` is not the one in the manifest.
        ArtifactError: the folder cannot be written.
    """
    entry = open_captures(root).entry(capture.id)
    check_hash(capture, entry)
    with staged_folder(root / entry.id) as scratch:
        write_pictures(scratch, capture)


def require_split(captures: CaptureSet, split: Split) -> CaptureSet:
    """Returns ``captures`` when it is of ``split``.

    Raises:
        CaptureError: it is of another split.
    """
    if captures.split is not split:
        raise CaptureError(
            f"Capture set {captures.root}: got the split {captures.split}, needed {split}. "
            f"Give a set of {split} captures."
        )
    return captures


def require_disjoint(*sets: CaptureSet) -> None:
    """Checks that sets of different splits share no source photo, scene seed or capture.

    Raises:
        CaptureError: names what two splits share; or all sets are of one split, so that there is
            nothing to keep apart.
    """
    if len({captures.split for captures in sets}) < 2:
        raise CaptureError(
            f"Disjoint splits: got {[str(captures.split) for captures in sets]}, needed at least "
            "two different splits. Give sets of different splits."
        )
    for one, other in combinations(sets, 2):
        if one.split is not other.split and (shared := _traces(one) & _traces(other)):
            raise CaptureError(
                f"Splits {one.split} ({one.root}) and {other.split} ({other.root}) share "
                f"{', '.join(f'{kind} {value}' for kind, value in sorted(shared))}, needed "
                "disjoint sets. Drop these captures from one of them."
            )


def _entry_of(item: CaptureItem) -> CaptureEntry:
    capture = item.capture
    return CaptureEntry(
        id=capture.id,
        sha256=capture_sha256(capture),
        provenance=item.provenance,
        optics=capture.optics,
        has_inverse_depth=capture.inverse_depth is not None,
        targets=tuple(
            TargetEntry(target.name, target.kind, target.truth is not None)
            for target in capture.targets
        ),
    )


def _refuse_other_folder(root: Path) -> None:
    """Replacing a set must never delete a folder that is not one."""
    replaceable = (
        not root.exists()
        or (root / MANIFEST_NAME).is_file()
        or (root.is_dir() and not any(root.iterdir()))
    )
    if not replaceable:
        raise CaptureError(
            f"Capture set {root}: got a folder that holds something else, needed a new, empty or "
            "capture-set folder. Choose another."
        )


def _traces(captures: CaptureSet) -> set[tuple[str, str]]:
    traces = {("capture", entry.sha256) for entry in captures.manifest.captures}
    for entry in captures.manifest.captures:
        traces |= {("source photo", source) for source in entry.provenance.sources}
        if entry.provenance.seed is not None:
            traces.add(("scene seed", str(entry.provenance.seed)))
    return traces
