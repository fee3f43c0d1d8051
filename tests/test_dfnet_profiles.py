"""Resolutions and the table of phones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dfnet.devices import DEVICES, DeviceProfile, find_device
from dfnet.errors import UnsupportedError
from dfnet.profiles import RESOLUTIONS, Resolution, parse_resolution
from dfnet.signature import STRIDE

PHONES = sorted(DEVICES.values(), key=lambda device: device.name)


@pytest.mark.parametrize("name", sorted(RESOLUTIONS))
def test_named_frames_are_landscape_and_fit_the_network(name: str) -> None:
    frame = parse_resolution(name)
    assert frame.width > frame.height
    assert frame.require_multiple_of(STRIDE) == frame
    assert frame.portrait.require_multiple_of(STRIDE) == Resolution(frame.width, frame.height)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("preview", Resolution(768, 1024)),
        ("hd-portrait", Resolution(1280, 720)),
        ("paper", Resolution(2024, 2688)),
        ("64x128", Resolution(64, 128)),
    ],
)
def test_a_resolution_is_a_name_or_height_by_width(text: str, expected: Resolution) -> None:
    assert parse_resolution(text) == expected


@pytest.mark.parametrize("text", ["", "4k", "preview-landscape", "x", "64", "64x", "-64x64"])
def test_another_text_lists_the_names(text: str) -> None:
    with pytest.raises(UnsupportedError, match="preview, hd, fhd, paper"):
        parse_resolution(text)


def test_what_is_printed_can_be_parsed() -> None:
    frame = Resolution(720, 1280)
    assert parse_resolution(str(frame)) == frame


@pytest.mark.parametrize(
    ("height", "width", "nearest"), [(1080, 1918, "1080x1920"), (3, 3, "8x8"), (61, 70, "64x72")]
)
def test_an_odd_frame_names_the_nearest(height: int, width: int, nearest: str) -> None:
    with pytest.raises(UnsupportedError, match=f"Nearest: {nearest}$"):
        Resolution(height, width).require_multiple_of(8)


def test_an_empty_frame_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="needed positive sizes"):
        Resolution(0, 64)


def test_at_least_eight_phones_of_both_platforms() -> None:
    assert len(PHONES) >= 8
    assert {device.platform for device in PHONES} == {"ios", "android"}


@pytest.mark.parametrize("device", PHONES, ids=lambda device: device.name)
def test_every_phone_can_be_found_and_exported_for(device: DeviceProfile) -> None:
    assert find_device(f" {device.name.upper()} ") is device
    assert RESOLUTIONS["preview"] in device.resolutions
    assert device.wide_photo.width > device.wide_photo.height
    assert device.wide_photo.megapixels >= 12


def test_an_unknown_phone_lists_the_likeliest_first() -> None:
    with pytest.raises(UnsupportedError, match="Choose one of Pixel 8 Pro, ") as refusal:
        find_device("Pixel 8 Porr")
    assert all(name in str(refusal.value) for name in DEVICES)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"source": ""}, "got no resolution, accelerator or source"),
        ({"shipped": (), "budget_ms": {}}, "got no resolution, accelerator or source"),
        ({"budget_ms": {"preview": 33.0}}, "got budgets for"),
        ({"shipped": ("8k",), "budget_ms": {"8k": None}}, "got resolution '8k'"),
        ({"wide_photo": Resolution(1200, 1600)}, "got resolution 'paper'"),
    ],
)
def test_an_incomplete_row_is_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(UnsupportedError, match=complaint):
        replace(find_device("Pixel 9"), **change)  # type: ignore[arg-type]
