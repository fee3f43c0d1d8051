"""Broken and altered picture files are refused; another PNG compression is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow

from dfnet.artifact import sha256_of
from dfnet.capture import Capture, Optics, Split, Target, TargetKind
from dfnet.capturefiles import capture_sha256
from dfnet.captureset import CaptureSet
from dfnet.errors import CaptureError


@pytest.fixture
def held_out(make_capture_set: Callable[..., CaptureSet]) -> CaptureSet:
    return make_capture_set(Split.HELD_OUT, 2)


def test_identity_is_the_same_on_every_machine() -> None:
    ramp = (np.arange(64, dtype=np.float32) / np.float32(255)).reshape(1, 1, 8, 8)
    colour = np.concatenate([ramp, ramp * 2, ramp * 0], axis=1)
    target = Target("near", TargetKind.REFOCUS, ramp, colour)
    capture = Capture(
        "x", colour, colour, ramp, ramp, ramp * 0, (target,), ramp * 30, Optics(2.5, 1.0)
    )
    pinned = "33970800e156ec64259ef5d6326bbfabecc46892eff9c4f524c8fc49ec4911d6"
    assert capture_sha256(capture) == pinned
    assert capture_sha256(replace(capture, id="y")) == pinned
    assert capture_sha256(replace(capture, optics=None)) != pinned
    assert capture_sha256(replace(capture, targets=())) != pinned


def test_another_png_compression_is_the_same_capture(held_out: CaptureSet) -> None:
    path = held_out.root / held_out.ids[0] / "wide.png"
    before = sha256_of(path)
    with Pillow.open(path) as picture:
        picture.load()
        picture.save(path, compress_level=0)
    assert sha256_of(path) != before
    held_out.load(held_out.ids[0])


def test_missing_picture(held_out: CaptureSet) -> None:
    (held_out.root / held_out.ids[0] / "truth-aif.png").unlink()
    with pytest.raises(CaptureError, match=r"truth-aif.png is missing, but its manifest lists it"):
        held_out.load(held_out.ids[0])
    held_out.load(held_out.ids[1])


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9])
def test_truncated_picture(held_out: CaptureSet, kept: float) -> None:
    path = held_out.root / held_out.ids[0] / "wide.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(CaptureError, match=r"wide.png: cannot be decoded .*whole PNG"):
        held_out.load(held_out.ids[0])


def test_no_flipped_byte_gets_through(held_out: CaptureSet) -> None:
    path = held_out.root / held_out.ids[0] / "occlusion.png"
    whole = path.read_bytes()
    original = held_out.load(held_out.ids[0]).occlusion
    refused = 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            # Some bytes, such as checksums Pillow ignores, do not change the picture.
            assert np.array_equal(held_out.load(held_out.ids[0]).occlusion, original)
        except CaptureError:
            refused += 1
    assert refused > len(whole) / 2


def test_another_file_format(held_out: CaptureSet) -> None:
    path = held_out.root / held_out.ids[0] / "wide.png"
    with Pillow.open(path) as picture:
        picture.save(path, format="JPEG")
    with pytest.raises(CaptureError, match="not a PNG"):
        held_out.load(held_out.ids[0])


@pytest.mark.parametrize(
    ("name", "mode", "needed"),
    [
        ("wide", "RGBA", "RGB"),
        ("wide", "L", "RGB"),
        ("wide", "P", "RGB"),
        ("occlusion", "RGB", "L"),
        ("inverse_depth", "L", "I;16"),
        ("target-aif", "I;16", "L"),
    ],
)
def test_wrong_channels(held_out: CaptureSet, name: str, mode: str, needed: str) -> None:
    Pillow.new(mode, (64, 64)).save(held_out.root / held_out.ids[0] / f"{name}.png")
    with pytest.raises(CaptureError, match=f"{name}.png: got {mode} pixels, needed {needed}"):
        held_out.load(held_out.ids[0])


def test_mismatched_sizes(held_out: CaptureSet) -> None:
    Pillow.new("RGB", (64, 32)).save(held_out.root / held_out.ids[0] / "ultrawide.png")
    with pytest.raises(CaptureError, match=r"ultrawide: got float32 \(1, 3, 32, 64\), needed"):
        held_out.load(held_out.ids[0])


def test_one_changed_pixel(held_out: CaptureSet) -> None:
    path = held_out.root / held_out.ids[0] / "truth-near.png"
    with Pillow.open(path) as picture:
        pixels = np.array(picture)
    pixels[5, 5, 1] ^= 1
    Pillow.fromarray(pixels).save(path)
    with pytest.raises(CaptureError, match=r"got sha256 \w{12}, needed \w{12}"):
        held_out.load(held_out.ids[0])
