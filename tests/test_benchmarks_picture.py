"""The picture shows what a file really computes, and refuses what is not there."""

import pytest

from benchmarks.mosaic import fill_frame
from benchmarks.picture import _strip
from dfnet.capture import Capture
from dfnet.errors import CaptureError
from dfnet.profiles import Resolution


def test_a_strip_holds_the_result_of_its_own_capture(captures: tuple[Capture, ...]) -> None:
    mosaics = fill_frame(captures, Resolution(64, 192))
    outputs = {mosaic.id: mosaic.truth for mosaic in mosaics}
    strip = _strip(mosaics, outputs, captures[1].id, "near")
    assert strip.result_db == float("inf")
    assert 10 < strip.wide_db < 60
    assert all(picture.shape == (64, 64, 3) for picture in strip.pictures)


@pytest.mark.parametrize("wanted", [("absent", "near"), ("synthetic-0", "absent")])
def test_an_unknown_row_lists_what_there_is(
    captures: tuple[Capture, ...], wanted: tuple[str, str]
) -> None:
    mosaics = fill_frame(captures, Resolution(64, 192))
    with pytest.raises(CaptureError, match="synthetic-0:near"):
        _strip(mosaics, {m.id: m.truth for m in mosaics}, *wanted)
