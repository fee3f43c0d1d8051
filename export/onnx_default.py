"""int8 the way ``onnxruntime.quantization`` does it when nothing is chosen: the comparison file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, quant_pre_process, quantize_static

from dfnet.profiles import Resolution
from export.sdk_program import SdkProgram

NOTES = (
    "Quantized for comparison by quant_pre_process and quantize_static with their defaults: int8 "
    "activations and weights per tensor, ranges from minimum to maximum, float32 inputs and "
    "output.",
    "On x86 ONNX Runtime computes some convolutions of signed activations in float.",
)


def quantize_by_default(
    program: SdkProgram, convert: Callable[[Resolution], ModelProto], resolution: Resolution
) -> ModelProto:
    """``program`` in int8 at ``resolution``; ``convert`` makes its float file of a given size.

    Calibration runs on the file of the captures' own size. Its ranges go through the SDK's own
    file for them, ``calibration_cache_path``, to any other size.
    """
    with tempfile.TemporaryDirectory() as folder:
        ranges = Path(folder) / "ranges.json"
        for size in dict.fromkeys((program.size, resolution)):
            # Pre-processed first, as quantize_static itself advises in its log.
            prepared = Path(folder) / f"{size}.onnx"
            quant_pre_process(convert(size), prepared)
            quantized = Path(folder) / f"{size}-int8.onnx"
            quantize_static(prepared, quantized, _Reader(program), calibration_cache_path=ranges)
        return onnx.load(quantized)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """The calibration feeds, one at a time."""

    def __init__(self, program: SdkProgram) -> None:
        self._feeds = program.feeds()

    def get_next(self) -> dict[str, Any] | None:
        feed = next(self._feeds, None)
        return None if feed is None else dict(feed)
