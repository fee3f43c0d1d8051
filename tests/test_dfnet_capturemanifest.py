"""Broken manifests are refused with one sentence that names the file and the field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dfnet.capture import Split
from dfnet.captureset import CaptureSet, open_captures
from dfnet.errors import CaptureError


@pytest.fixture
def held_out(make_capture_set: Callable[..., CaptureSet]) -> CaptureSet:
    return make_capture_set(Split.HELD_OUT, 2)


def edit(root: Path, changes: dict[str, Any]) -> Path:
    """Changes fields of the manifest on disk; ``first_<field>`` is a field of the first capture."""
    path = root / "manifest.json"
    data = json.loads(path.read_text())
    for name, value in changes.items():
        row = data["captures"][0] if name.startswith("first_") else data
        row[name.removeprefix("first_")] = value
    path.write_text(json.dumps(data))
    return root


def test_missing_manifest(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CaptureError, match=r"got no manifest\.json"):
            open_captures(root)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00\xff"])
def test_manifest_that_is_not_json(held_out: CaptureSet, text: str) -> None:
    (held_out.root / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CaptureError, match="needed JSON"):
        open_captures(held_out.root)


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}"])
def test_manifest_of_another_shape(held_out: CaptureSet, text: str) -> None:
    (held_out.root / "manifest.json").write_text(text)
    with pytest.raises(CaptureError, match="got no field 'schema'"):
        open_captures(held_out.root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "got schema 2, needed 1"),
        ({"split": "testing"}, "split: got 'testing', needed one of training, calibration"),
        ({"captures": []}, "got no captures, needed at least one"),
        ({"captures": {}}, "field 'captures': got {}, needed list"),
        ({"captures": [7]}, "got no field 'id'"),
        ({"first_id": "../../etc"}, "Capture id: got '../../etc'"),
        ({"first_id": "/etc"}, "Capture id: got '/etc'"),
        ({"first_id": ""}, "Capture id: got ''"),
        ({"first_id": "a\n"}, r"Capture id: got 'a\\n'"),
        ({"first_id": "manifest.json"}, "Capture id: got 'manifest.json'"),
        ({"first_id": "synthetic-4001"}, r"\['synthetic-4001'\] more than once"),
        ({"first_sha256": "abc"}, "needed 64 hex digits"),
        ({"first_seed": True}, "field 'seed': got True, needed int"),
        ({"first_seed": None, "first_sources": []}, "neither source photos nor a seed"),
        ({"first_sources": [1]}, "needed a list of photo ids"),
        ({"first_licence": " "}, "empty licence"),
        ({"first_derived": "no"}, "field 'derived': got 'no', needed bool"),
        ({"first_optics": {}}, "got no field 'blur_px_per_dioptre'"),
        (
            {"first_optics": {"blur_px_per_dioptre": float("nan"), "focus_dioptres": 1.0}},
            "Optics: got nan",
        ),
        (
            {"first_targets": [{"name": "../x", "kind": "mask", "has_truth": False}]},
            "target name: got '../x'",
        ),
        (
            {"first_targets": [{"name": "x", "kind": "blur", "has_truth": False}]},
            "target kind: got 'blur', needed one of all-in-focus",
        ),
    ],
)
def test_manifest_with_a_bad_field(
    held_out: CaptureSet, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CaptureError, match=message) as caught:
        open_captures(edit(held_out.root, changes))
    assert str(held_out.root) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_changed_optics_and_target_kinds(held_out: CaptureSet) -> None:
    [first, *_] = held_out.manifest.captures
    rows = [{"name": t.name, "kind": "mask", "has_truth": True} for t in first.targets]
    optics = {"blur_px_per_dioptre": 2.5, "focus_dioptres": 1.0}
    for change in ({"first_targets": rows}, {"first_optics": optics}):
        text = (held_out.root / "manifest.json").read_text()
        with pytest.raises(CaptureError, match="got sha256"):
            open_captures(edit(held_out.root, change)).load(first.id)
        (held_out.root / "manifest.json").write_text(text)
