"""Making equal Core ML builds equal byte for byte.

coremltools puts random identifiers, the date, and a debugging table into every package; an
artifact's hash is its identity, so none of that may stay.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from coremltools.proto import Model_pb2

from export.coreml_structure import model_path

_STRAY = "executorch_debug_handle_mapping.json"
_DATE = "com.github.apple.coremltools.conversion_date"


def normalise_package(package: Path) -> None:
    """Rewrites a package in place: identifiers from paths, no date, no stray debugging table."""
    (package / _STRAY).unlink(missing_ok=True)
    _normalise_model(model_path(package))
    _normalise_manifest(package / "Manifest.json")


def _normalise_model(path: Path) -> None:
    model = Model_pb2.Model()
    model.ParseFromString(path.read_bytes())
    model.description.metadata.userDefined.pop(_DATE, None)
    # Protobuf maps keep no order of their own.
    path.write_bytes(model.SerializeToString(deterministic=True))


def _normalise_manifest(path: Path) -> None:
    manifest = json.loads(path.read_text())
    entries = manifest["itemInfoEntries"]
    names = {old: _identifier(entry["path"]) for old, entry in entries.items()}
    manifest["itemInfoEntries"] = {names[old]: entry for old, entry in entries.items()}
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    path.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")


def _identifier(path: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, path))
