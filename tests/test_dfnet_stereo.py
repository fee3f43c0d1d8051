"""Captures of measured depth: derived from the pinned wheel, bit for bit."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dfnet.captureset import open_captures
from dfnet.shipped import CAPTURES
from dfnet.stereo import derive_missing


@pytest.fixture
def one_derived(tmp_path: Path) -> Path:
    """A set whose manifest lists motorcycle-1 alone, without its pictures."""
    manifest = open_captures(CAPTURES / "held_out").manifest
    entry = next(e for e in manifest.captures if e.id == "motorcycle-1")
    (tmp_path / "manifest.json").write_text(replace(manifest, captures=(entry,)).to_text())
    return tmp_path


def test_a_missing_capture_is_derived_and_verified(one_derived: Path) -> None:
    assert derive_missing(one_derived) == 1
    assert len(list(open_captures(one_derived))) == 1
    assert derive_missing(one_derived) == 0


def test_setup_left_nothing_to_derive() -> None:
    assert open_captures(CAPTURES / "held_out").missing_derived() == ()


def test_a_stored_capture_is_not_mistaken_for_a_derived_one(tmp_path: Path) -> None:
    source = CAPTURES / "held_out"
    manifest = open_captures(source).manifest
    entry = manifest.captures[0]
    assert not entry.provenance.derived
    (tmp_path / "manifest.json").write_text(replace(manifest, captures=(entry,)).to_text())
    assert derive_missing(tmp_path) == 0
    shutil.copytree(source / entry.id, tmp_path / entry.id)
    assert len(list(open_captures(tmp_path))) == 1
