"""Capture sets on disk: what goes in comes out, and nothing altered gets through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfnet.artifact import sha256_of
from dfnet.capture import Capture, Split, Target, TargetKind
from dfnet.capturefiles import write_pictures
from dfnet.capturemanifest import Provenance
from dfnet.captureset import (
    CaptureItem,
    CaptureSet,
    open_captures,
    require_disjoint,
    require_split,
    write_capture_files,
    write_captures,
)
from dfnet.errors import ArtifactError, CaptureError

MakeSet = Callable[..., CaptureSet]
MakeCapture = Callable[..., Capture]

DERIVED = Provenance(sources=("motorcycle",), seed=1, licence="see package", derived=True)


@pytest.fixture
def held_out(make_capture_set: MakeSet) -> CaptureSet:
    return make_capture_set(Split.HELD_OUT, 2)


def same(one: Capture, other: Capture) -> bool:
    names = ("wide", "ultrawide", "defocus_wide", "defocus_ultrawide", "occlusion")
    pairs = [(getattr(one, name), getattr(other, name)) for name in (*names, "inverse_depth")]
    for mine, yours in zip(one.targets, other.targets, strict=True):
        pairs += [(mine.defocus, yours.defocus), (mine.truth, yours.truth)]
        pairs.append(((mine.name, mine.kind), (yours.name, yours.kind)))
    return one.optics == other.optics and all(np.array_equal(a, b) for a, b in pairs)


def test_a_capture_comes_back_bit_for_bit(tmp_path: Path, make_capture: MakeCapture) -> None:
    capture = make_capture(7)
    item = CaptureItem(capture, Provenance(("photo",), 7, "CC0-1.0"))
    written = write_captures(tmp_path / "set", Split.TRAINING, [item], licence="CC0-1.0")
    opened = open_captures(tmp_path / "set")
    assert opened == written
    assert (opened.split, opened.ids, len(opened)) == (Split.TRAINING, ("synthetic-7",), 1)
    assert opened.entry("synthetic-7").provenance == item.provenance
    [loaded] = opened
    assert same(loaded, capture)
    assert loaded.wide.flags.c_contiguous


def test_pictures_are_rounded_to_the_nearest_step(
    tmp_path: Path, make_capture: MakeCapture
) -> None:
    capture = make_capture(0)
    off_grid = replace(capture, wide=np.full_like(capture.wide, 100.4 / 255))
    item = CaptureItem(off_grid, Provenance((), 0, "CC0-1.0"))
    [loaded] = write_captures(tmp_path / "set", Split.TRAINING, [item], licence="CC0-1.0")
    assert np.unique(loaded.wide) == np.float32(100) / np.float32(255)


def test_depth_truth_and_optics_may_be_absent(tmp_path: Path, make_capture: MakeCapture) -> None:
    target = make_capture(0).targets[0]
    bare = replace(
        make_capture(0), inverse_depth=None, optics=None, targets=(replace(target, truth=None),)
    )
    item = CaptureItem(bare, Provenance((), 0, "CC0-1.0"))
    [loaded] = write_captures(tmp_path / "set", Split.TRAINING, [item], licence="CC0-1.0")
    assert loaded.inverse_depth is None
    assert loaded.optics is None
    assert loaded.targets[0].truth is None


def test_the_sets_hash_follows_content_not_order(make_capture_set: MakeSet) -> None:
    one, other = make_capture_set(Split.HELD_OUT, 2), make_capture_set(Split.HELD_OUT, 2)
    assert one.root != other.root
    assert one.sha256 == other.sha256
    turned = replace(one.manifest, captures=one.manifest.captures[::-1])
    assert CaptureSet(one.root, turned).sha256 == one.sha256
    assert one.take(1).sha256 != one.sha256
    validation = CaptureSet(one.root, replace(one.manifest, split=Split.VALIDATION))
    assert validation.sha256 != one.sha256


@pytest.mark.parametrize("count", [0, 3])
def test_take_refuses_what_is_not_there(held_out: CaptureSet, count: int) -> None:
    with pytest.raises(CaptureError, match="needed 1 to 2"):
        held_out.take(count)


def test_select_is_a_set_of_its_own(held_out: CaptureSet) -> None:
    first, second = held_out.ids
    assert held_out.select([second]).ids == (second,)
    assert held_out.select([second, first]).sha256 == held_out.sha256
    assert held_out.select([first]).sha256 == held_out.take(1).sha256


@pytest.mark.parametrize("ids", [[], ["nobody"], ["synthetic-4000", "synthetic-4000"]])
def test_select_refuses_what_is_no_choice(held_out: CaptureSet, ids: list[str]) -> None:
    with pytest.raises(CaptureError, match=r"needed some once|Choose one of"):
        held_out.select(ids)


def test_load_names_the_captures_when_the_id_is_unknown(held_out: CaptureSet) -> None:
    with pytest.raises(CaptureError, match="Choose one of synthetic-4000, synthetic-4001"):
        held_out.load("synthetic-1")


def test_refuses_an_empty_set(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="got no captures"):
        write_captures(tmp_path / "set", Split.TRAINING, [], licence="CC0-1.0")
    assert not (tmp_path / "set").exists()


def test_refuses_hostile_and_repeated_names(tmp_path: Path, make_capture: MakeCapture) -> None:
    capture, provenance = make_capture(0), Provenance((), 0, "CC0-1.0")
    hostile_target = Target("../x", TargetKind.MASK, capture.occlusion)
    for bad, message in (
        ([replace(capture, id="../outside")], "Capture id: got '../outside'"),
        ([replace(capture, id="UPPER")], "Capture id: got 'UPPER'"),
        ([replace(capture, targets=(hostile_target,))], "target name: got '../x'"),
        ([capture, capture], "more than once"),
    ):
        items = [CaptureItem(each, provenance) for each in bad]
        with pytest.raises(CaptureError, match=message):
            write_captures(tmp_path / "set", Split.TRAINING, items, licence="CC0-1.0")
    assert list(tmp_path.iterdir()) == []


def test_never_replaces_a_folder_that_is_no_set(tmp_path: Path, make_capture: MakeCapture) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    item = CaptureItem(make_capture(0), Provenance((), 0, "CC0-1.0"))
    for root in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(CaptureError, match="holds something else"):
            write_captures(root, Split.TRAINING, [item], licence="CC0-1.0")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_interrupted_write_leaves_the_old_set(
    held_out: CaptureSet, make_capture: MakeCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sha256_of(held_out.root)
    written: list[Path] = []

    def interrupted(folder: Path, capture: Capture) -> None:
        write_pictures(folder, capture)
        written.append(folder)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("dfnet.captureset.write_pictures", interrupted)
    items = [CaptureItem(make_capture(n), Provenance((), n, "CC0-1.0")) for n in (1, 2)]
    with pytest.raises(KeyboardInterrupt):
        write_captures(held_out.root, Split.HELD_OUT, items, licence="CC0-1.0")
    assert sha256_of(held_out.root) == before
    assert list(held_out.root.parent.iterdir()) == [held_out.root]


def test_a_place_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, make_capture: MakeCapture
) -> None:
    (tmp_path / "file").write_text("")
    item = CaptureItem(make_capture(0), Provenance((), 0, "CC0-1.0"))
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_captures(tmp_path / "file" / "set", Split.TRAINING, [item], licence="CC0-1.0")


@pytest.fixture
def derived(tmp_path: Path, make_capture: MakeCapture) -> CaptureSet:
    """A set whose second capture is derived, as a fresh clone holds it: without its pictures."""
    items = [
        CaptureItem(make_capture(0), Provenance((), 0, "CC0-1.0")),
        CaptureItem(make_capture(1), DERIVED),
    ]
    captures = write_captures(tmp_path / "set", Split.HELD_OUT, items, licence="CC0-1.0")
    for path in (captures.root / "synthetic-1").iterdir():
        path.unlink()
    (captures.root / "synthetic-1").rmdir()
    return captures


def test_a_derived_capture_asks_for_setup(derived: CaptureSet) -> None:
    assert derived.missing_derived() == ("synthetic-1",)
    derived.load("synthetic-0")
    with pytest.raises(CaptureError, match="Run `make setup`"):
        derived.load("synthetic-1")


def test_setup_fills_in_a_derived_capture(derived: CaptureSet, make_capture: MakeCapture) -> None:
    write_capture_files(derived.root, make_capture(1))
    assert derived.missing_derived() == ()
    assert same(derived.load("synthetic-1"), make_capture(1))


def test_setup_refuses_a_rendering_that_differs(
    derived: CaptureSet, make_capture: MakeCapture
) -> None:
    with pytest.raises(CaptureError, match="got sha256"):
        write_capture_files(derived.root, replace(make_capture(2), id="synthetic-1"))
    with pytest.raises(CaptureError, match="is not in"):
        write_capture_files(derived.root, make_capture(9))
    assert derived.missing_derived() == ("synthetic-1",)


def test_require_split(held_out: CaptureSet) -> None:
    assert require_split(held_out, Split.HELD_OUT) is held_out
    with pytest.raises(CaptureError, match="got the split held_out, needed calibration"):
        require_split(held_out, Split.CALIBRATION)


def test_splits_of_the_fixtures_are_disjoint(make_capture_set: MakeSet) -> None:
    sets = [make_capture_set(split, 2) for split in Split]
    require_disjoint(*sets)
    assert len({id_ for one in sets for id_ in one.ids}) == 2 * len(Split)


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        (Provenance(("synthetic-4001",), 5, "CC0-1.0"), "share source photo synthetic-4001,"),
        (Provenance(("other",), 4001, "CC0-1.0"), "share scene seed 4001,"),
    ],
)
def test_a_shared_source_or_seed_is_named(
    tmp_path: Path,
    held_out: CaptureSet,
    make_capture: MakeCapture,
    provenance: Provenance,
    message: str,
) -> None:
    item = CaptureItem(make_capture(5), provenance)
    leaking = write_captures(tmp_path / "set", Split.CALIBRATION, [item], licence="CC0-1.0")
    with pytest.raises(CaptureError, match=message):
        require_disjoint(leaking, held_out)


def test_the_same_picture_under_another_name_is_found(tmp_path: Path, held_out: CaptureSet) -> None:
    copied = replace(held_out.load(held_out.ids[0]), id="innocent")
    item = CaptureItem(copied, Provenance(("elsewhere",), 1, "CC0-1.0"))
    leaking = write_captures(tmp_path / "set", Split.VALIDATION, [item], licence="CC0-1.0")
    with pytest.raises(CaptureError, match="share capture"):
        require_disjoint(leaking, held_out)


def test_disjointness_of_one_split_is_no_proof(make_capture_set: MakeSet) -> None:
    one = make_capture_set(Split.HELD_OUT, 1)
    for sets in ((), (one,), (one, one)):
        with pytest.raises(CaptureError, match="needed at least two different splits"):
            require_disjoint(*sets)
