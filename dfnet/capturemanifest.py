"""A capture set's manifest: what was captured, from which sources, and the hash of each capture.

    {"schema": 1, "split": "held_out", "licence": "...", "captures": [{
        "id": "...", "sha256": "...", "sources": ["photo id", ...], "seed": 7 or null,
        "licence": "...", "derived": false, "has_inverse_depth": true,
        "optics": {"blur_px_per_dioptre": 2.1, "focus_dioptres": 1.5} or null,
        "targets": [{"name": "...", "kind": "refocus", "has_truth": true}, ...]}, ...]}

Every field must be there; fields that are not listed here are ignored.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from dfnet.capture import Optics, Split, TargetKind
from dfnet.errors import CaptureError

SCHEMA = 1
MANIFEST_NAME = "manifest.json"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)


def check_name(what: str, name: str) -> str:
    """Returns ``name`` when it is safe as a part of a file name on every system.

    Raises:
        CaptureError: ``name`` could leave its folder or collide with the manifest.
    """
    if not _NAME.fullmatch(name) or name == MANIFEST_NAME:
        raise CaptureError(
            f"{what}: got {name!r}, needed 1 to 100 lower-case letters, digits, '.', '_' or '-', "
            f"starting with a letter or digit, and not {MANIFEST_NAME}. Rename it."
        )
    return name


@dataclass(frozen=True)
class Provenance:
    """Where a capture comes from, so that two splits can be proved disjoint.

    ``sources`` are ids of source photographs; ``seed`` is the scene's random seed. A ``derived``
    capture's pictures are not stored but rendered at setup and checked against the manifest.
    """

    sources: tuple[str, ...]
    seed: int | None
    licence: str
    derived: bool = False

    def __post_init__(self) -> None:
        if not self.sources and self.seed is None:
            raise CaptureError(
                "Provenance: got neither source photos nor a seed, needed one of them to keep "
                "splits apart. Name the photographs."
            )
        if not self.licence.strip() or not all(source.strip() for source in self.sources):
            raise CaptureError(
                "Provenance: got an empty licence or source id, needed text. Name them."
            )


@dataclass(frozen=True)
class TargetEntry:
    """One target's row in the manifest."""

    name: str
    kind: TargetKind
    has_truth: bool


@dataclass(frozen=True)
class CaptureEntry:
    """One capture's row in the manifest; ``sha256`` is over its decoded pictures."""

    id: str
    sha256: str
    provenance: Provenance
    optics: Optics | None
    has_inverse_depth: bool
    targets: tuple[TargetEntry, ...]

    def __post_init__(self) -> None:
        check_name("Capture id", self.id)
        for target in self.targets:
            check_name(f"Capture {self.id}, target name", target.name)
        if not _SHA256.fullmatch(self.sha256):
            raise CaptureError(
                f"Capture {self.id}: got sha256 {self.sha256!r}, needed 64 hex digits. "
                "Write the set again."
            )

    def to_json(self) -> dict[str, Any]:
        row = asdict(self)
        provenance: dict[str, Any] = row.pop("provenance")
        return provenance | row


@dataclass(frozen=True)
class CaptureManifest:
    """A whole manifest; ids are distinct and there is at least one capture."""

    split: Split
    licence: str
    captures: tuple[CaptureEntry, ...]

    def __post_init__(self) -> None:
        if not self.captures:
            raise CaptureError("got no captures, needed at least one. Write the set again.")
        ids = [entry.id for entry in self.captures]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise CaptureError(f"got the ids {twice} more than once. Give every capture one id.")

    def to_text(self) -> str:
        rows = [entry.to_json() for entry in self.captures]
        document = {"schema": SCHEMA, **asdict(self), "captures": rows}
        return json.dumps(document, indent=2, sort_keys=True) + "\n"


def read_manifest(path: Path) -> CaptureManifest:
    """Reads and checks a manifest; the pictures are not touched.

    Raises:
        CaptureError: missing, not JSON, of another schema, or with a field that does not fit.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CaptureError(
            f"Capture set {path.parent}: got no {MANIFEST_NAME}, needed a folder with one. "
            "Give the folder of a capture set."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CaptureError(
            f"Capture manifest {path}: got {error}, needed JSON. Restore it from the original."
        ) from error
    try:
        return _manifest(data)
    except CaptureError as error:
        raise CaptureError(f"Capture manifest {path}: {error}") from error


def _manifest(data: object) -> CaptureManifest:
    schema = _field(data, "schema", int)
    if schema != SCHEMA:
        raise CaptureError(f"got schema {schema}, needed {SCHEMA}. Write the set again.")
    return CaptureManifest(
        split=_choice(Split, _field(data, "split", str), "split"),
        licence=_field(data, "licence", str),
        captures=tuple(_entry(row) for row in _field(data, "captures", list)),
    )


def _entry(row: object) -> CaptureEntry:
    return CaptureEntry(
        id=_field(row, "id", str),
        sha256=_field(row, "sha256", str),
        provenance=Provenance(
            sources=_sources(row),
            seed=_optional(row, "seed", int),
            licence=_field(row, "licence", str),
            derived=_field(row, "derived", bool),
        ),
        optics=_optics(_optional(row, "optics", dict)),
        has_inverse_depth=_field(row, "has_inverse_depth", bool),
        targets=tuple(_target(target) for target in _field(row, "targets", list)),
    )


def _sources(row: object) -> tuple[str, ...]:
    sources = _field(row, "sources", list)
    if not all(isinstance(source, str) for source in sources):
        raise CaptureError(f"sources: got {sources}, needed a list of photo ids. Correct it.")
    return tuple(sources)


def _optics(row: dict[str, Any] | None) -> Optics | None:
    if row is None:
        return None
    return Optics(_field(row, "blur_px_per_dioptre", float), _field(row, "focus_dioptres", float))


def _target(row: object) -> TargetEntry:
    return TargetEntry(
        name=_field(row, "name", str),
        kind=_choice(TargetKind, _field(row, "kind", str), "target kind"),
        has_truth=_field(row, "has_truth", bool),
    )


def _optional(row: object, name: str, kind: type[_T]) -> _T | None:
    if isinstance(row, dict) and name in row and row[name] is None:
        return None
    return _field(row, name, kind)


def _field(row: object, name: str, kind: type[_T]) -> _T:
    if not isinstance(row, dict) or name not in row:
        raise CaptureError(f"got no field {name!r}, needed {kind.__name__}. Write the set again.")
    value = row[name]
    # `type() is`, because True is an int to isinstance; json has already made 1.0 a float.
    if type(value) is not kind:
        raise CaptureError(
            f"field {name!r}: got {value!r}, needed {kind.__name__}. Write the set again."
        )
    return value


def _choice(enum: type[_E], value: str, what: str) -> _E:
    try:
        return enum(value)
    except ValueError as error:
        raise CaptureError(
            f"{what}: got {value!r}, needed one of {', '.join(enum)}. Correct it."
        ) from error
