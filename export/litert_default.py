"""int8 the way ai-edge-quantizer does it when nothing is chosen: LiteRT's comparison file."""

from __future__ import annotations

from ai_edge_quantizer import recipe
from ai_edge_quantizer.quantizer import Quantizer

from dfnet.errors import UnsupportedError
from dfnet.profiles import Resolution
from export.litert_convert import SIGNATURE, convert
from export.litert_graph import tensor_names
from export.sdk_program import SdkProgram

NOTES = (
    "Quantized for comparison by ai-edge-quantizer's defaults, recipe static_wi8_ai8: int8 inputs "
    "and output, weights per channel, ranges as a moving average over the calibration feeds.",
)


def quantize_by_default(program: SdkProgram, resolution: Resolution) -> bytes:
    """``program`` in int8 at ``resolution``, with int8 inputs and output.

    The three calls of the SDK's README: a recipe, ``calibrate``, ``quantize``. Calibration runs on
    the file of the captures' own size; its ranges are kept by tensor name and serve any size.

    Raises:
        UnsupportedError: the network cannot be converted, or its tensors are called otherwise at
            ``resolution``.
    """
    measured = convert(program.module(), program.size)
    feeds = [dict(feed) for feed in program.feeds()]  # calibrate counts them first
    ranges = Quantizer(measured, recipe.static_wi8_ai8()).calibrate({SIGNATURE: feeds})
    model = measured if resolution == program.size else convert(program.module(), resolution)
    if unknown := sorted(set(ranges) - tensor_names(model)):
        raise UnsupportedError(
            f"LiteRT {program.recipe.name} at {resolution}: got no tensor {unknown[0]!r}, which "
            f"the file of {program.size} has; needed the same tensors. Export at {program.size}."
        )
    quantizer = Quantizer(model, recipe.static_wi8_ai8())
    return bytes(quantizer.quantize(ranges, enable_progress_report=False).quantized_model)
