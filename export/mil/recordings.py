"""Recordings: what Core ML on some Mac computed from the goldens, kept as files.

tests/coreml_recordings/<mac>/index.json      the Mac, and per golden the package's sha256
tests/coreml_recordings/<mac>/<golden>.npz    inputs, and outputs per compute unit

Arrays are named ``input/<name>`` and ``<unit>/<name>``. A unit that refused a golden has its
reason in the index instead.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfnet.errors import ArtifactError
from export.mil.golden import Array

INDEX_NAME = "index.json"
SCHEMA = 1
_INPUT = "input"


@dataclass(frozen=True)
class Mac:
    """Where a recording was made."""

    macos: str
    chip: str | None
    model: str | None
    coremltools: str


@dataclass(frozen=True)
class Recording:
    """One golden on one Mac. ``outputs`` are by compute unit, then by name; pictures are uint8, HWC
    in RGB order. ``refusals`` are Core ML's own words by compute unit."""

    golden: str
    package_sha256: str
    inputs: dict[str, Array]
    outputs: dict[str, dict[str, Array]]
    refusals: dict[str, str]


@dataclass(frozen=True)
class RecordingSet:
    """All recordings of one Mac."""

    mac: Mac
    recordings: tuple[Recording, ...]


def write_recordings(folder: Path, mac: Mac, recordings: Sequence[Recording]) -> None:
    """Writes a set into an existing empty folder, the index last."""
    for recording in recordings:
        arrays = {f"{_INPUT}/{name}": array for name, array in recording.inputs.items()}
        for unit, outputs in recording.outputs.items():
            arrays |= {f"{unit}/{name}": array for name, array in outputs.items()}
        with (folder / f"{recording.golden}.npz").open("wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type] # names are no keywords
    index = {
        "schema": SCHEMA,
        "mac": asdict(mac),
        "goldens": {
            r.golden: {"package_sha256": r.package_sha256, "refusals": r.refusals}
            for r in recordings
        },
    }
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (folder / INDEX_NAME).write_text(text, encoding="utf-8")


def find_recordings(root: Path) -> tuple[Path, ...]:
    """The folders of the sets below ``root``; none if it does not exist."""
    return tuple(sorted(path.parent for path in root.glob(f"*/{INDEX_NAME}")))


def read_recordings(folder: Path) -> RecordingSet:
    """The set in ``folder``.

    Raises:
        ArtifactError: a file is missing, damaged, or not what the index says.
    """
    try:
        index = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
        if index["schema"] != SCHEMA or not index["goldens"]:
            raise ValueError(f"schema {index['schema']!r} and {len(index['goldens'])} goldens")
        return RecordingSet(
            Mac(**index["mac"]),
            tuple(_read(folder, name, facts) for name, facts in index["goldens"].items()),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise ArtifactError(
            f"Core ML recordings {folder}: got {type(error).__name__} {error}, needed the files of "
            "python -m export.mil.record. Record again."
        ) from error


def _read(folder: Path, name: str, facts: Mapping[str, Any]) -> Recording:
    inputs: dict[str, Array] = {}
    outputs: dict[str, dict[str, Array]] = {}
    # A name with a separator would read outside of the folder.
    with np.load(folder / Path(f"{name}.npz").name, allow_pickle=False) as arrays:
        for key in arrays.files:
            owner, _, feature = key.partition("/")
            kept = inputs if owner == _INPUT else outputs.setdefault(owner, {})
            kept[feature] = arrays[key]
    refusals = {str(unit): str(reason) for unit, reason in facts["refusals"].items()}
    return Recording(name, str(facts["package_sha256"]), inputs, outputs, refusals)
