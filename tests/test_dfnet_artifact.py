"""Manifests and staged folders: whole or not at all, and nothing altered goes unnoticed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dfnet.artifact import (
    MANIFEST_NAME,
    Artifact,
    bytes_of,
    read_artifact,
    sha256_of,
    staged_folder,
    verify_artifact,
    write_manifest,
)
from dfnet.errors import ArtifactError
from dfnet.manifest import Delegation, Manifest, TensorSpec
from dfnet.profiles import Precision, Resolution

MANIFEST = Manifest(
    runtime="litert",
    backend="xnnpack",
    precision=Precision.W8A8,
    platform="android",
    resolution=Resolution(64, 128),
    inputs=(TensorSpec("wide", (1, 64, 128, 3), "int8", "NHWC", scale=1 / 255, zero_point=-128),),
    outputs=(TensorSpec("refocused", (1, 3, 64, 128), "float32", "NCHW"),),
    checkpoint_sha256="c" * 64,
    recipe={"name": "int8", "keep_float": []},
    calibration_sha256=None,
    build_key="b" * 64,
    artifact_file="model.bin",
    artifact_sha256="",
    artifact_bytes=0,
    tool_versions={"torch": "2.13.0"},
    delegation=Delegation(1, 0, {"xnnpack": {"conv2d": 37}}),
    notes=("a note",),
    facts={"nested": {"list": [1, 2]}},
)


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """A small artifact on disk."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    file = folder / "model.bin"
    file.write_bytes(b"weights")
    manifest = replace(MANIFEST, artifact_sha256=sha256_of(file), artifact_bytes=bytes_of(file))
    write_manifest(folder, manifest)
    return Artifact(folder, manifest)


def test_an_artifact_reads_back_as_it_was_written(artifact: Artifact) -> None:
    again = read_artifact(artifact.folder)
    assert again == artifact
    assert again.id == "artifact"
    assert again.path.read_bytes() == b"weights"
    assert sorted(p.name for p in artifact.folder.iterdir()) == [MANIFEST_NAME, "model.bin"]


def test_an_altered_file_is_found(artifact: Artifact) -> None:
    artifact.path.write_bytes(b"weightz")
    with pytest.raises(ArtifactError, match="was changed after export"):
        verify_artifact(artifact)


def test_a_missing_file_is_found(artifact: Artifact) -> None:
    artifact.path.unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        read_artifact(artifact.folder)


def without(data: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != name}


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "another schema": lambda data: {**data, "schema": 99},
    "no schema": lambda data: without(data, "schema"),
    "a missing field": lambda data: without(data, "build_key"),
    "an unknown field": lambda data: {**data, "surprise": 1},
    "an unknown precision": lambda data: {**data, "precision": "int4"},
    "a broken resolution": lambda data: {**data, "resolution": {"height": 0, "width": 8}},
    "a broken tensor": lambda data: {**data, "inputs": [{"name": "wide"}]},
    "a broken delegation": lambda data: {**data, "delegation": {"calls": 1}},
    "no object": lambda data: [data],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_manifest_is_one_sentence(
    artifact: Artifact, damage: Callable[[dict[str, Any]], object]
) -> None:
    path = artifact.folder / MANIFEST_NAME
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(ArtifactError, match="Export again") as caught:
        read_artifact(artifact.folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "\x00\xff"])
def test_a_manifest_that_is_no_json_is_one_sentence(artifact: Artifact, text: str) -> None:
    (artifact.folder / MANIFEST_NAME).write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match="Export again"):
        read_artifact(artifact.folder)


def test_a_folder_without_a_manifest_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="Export again"):
        read_artifact(tmp_path)


def test_a_staged_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    with staged_folder(target) as folder:
        (folder / "file").write_text("one")
        assert not target.exists()
    assert (target / "file").read_text() == "one"
    with staged_folder(target) as folder:
        (folder / "other").write_text("two")
    assert [p.name for p in target.iterdir()] == ["other"]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError("sdk"), KeyboardInterrupt(), SystemExit(143)])
def test_a_block_that_breaks_off_leaves_everything_as_it_was(
    tmp_path: Path, error: BaseException
) -> None:
    target = tmp_path / "target"
    with staged_folder(target) as folder:
        (folder / "file").write_text("before")
    with pytest.raises(type(error)), staged_folder(target) as folder:
        (folder / "file").write_text("half")
        raise error
    assert (target / "file").read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        pytest.raises(ArtifactError, match="No space left on device.*--output"),
        staged_folder(tmp_path / "target"),
    ):
        raise full
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(ArtifactError, match="cannot be written"),
        staged_folder(tmp_path / "file" / "target"),
    ):
        pytest.fail("the block must not run")


def test_a_folder_is_hashed_by_names_and_contents(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, str]) -> str:
        for file, text in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return sha256_of(tmp_path / name)

    same = folder("a", {"x": "1", "sub/y": "2"})
    assert folder("b", {"sub/y": "2", "x": "1"}) == same
    others = [
        folder("c", {"x": "1", "sub/z": "2"}),
        folder("d", {"x": "2", "sub/y": "1"}),
        folder("e", {"x": "12", "sub/y": ""}),
        folder("f", {"x": "1"}),
    ]
    assert len({same, *others}) == 5
    assert bytes_of(tmp_path / "a") == 2
