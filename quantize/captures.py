"""Which captures may calibrate. Imports no quantizer, so that it can be asked at once."""

from __future__ import annotations

from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.errors import CalibrationError

MIN_CAPTURES = 8
"""Fewer captures do not span the scenes, focus distances and target maps a phone meets."""


def require_calibration_captures(captures: CaptureSet) -> None:
    """Checks the split and the number of captures.

    Raises:
        CalibrationError: another split, or fewer than ``MIN_CAPTURES``.
    """
    if captures.split is not Split.CALIBRATION:
        raise CalibrationError(
            f"Calibration captures {captures.root}: got the split {captures.split}, needed "
            f"{Split.CALIBRATION}. Calibrating on captures that are scored later hides damage."
        )
    if len(captures) < MIN_CAPTURES:
        raise CalibrationError(
            f"Calibration captures {captures.root}: got {len(captures)}, needed at least "
            f"{MIN_CAPTURES}. Add captures of other scenes."
        )
