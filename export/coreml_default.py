"""int8 the way coremltools does it: Core ML's comparison file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from dfnet.errors import UnsupportedError
from dfnet.profiles import Resolution
from export.coreml_calibrate import quantize_package
from export.sdk_program import SdkProgram

NOTES = (
    "Quantized for comparison by coremltools' linear_quantize_activations and "
    "linear_quantize_weights (linear_symmetric), with the reference evaluator predicting: float32 "
    "inputs and output.",
    "Every calibration feed was given, but coremltools 9.0 keeps the ranges of the last one alone.",
)


def quantize_by_default(
    program: SdkProgram, save: Callable[[Path], None], output: Path, resolution: Resolution
) -> None:
    """Writes the package of ``program`` at ``resolution`` to ``output``, in int8; ``save`` writes
    it in float16.

    Raises:
        UnsupportedError: ``resolution`` is not the captures' own.
    """
    if resolution != program.size:
        raise UnsupportedError(
            f"Core ML {program.recipe.name}: got {resolution}, needed {program.size}, the size of "
            f"the calibration captures, because coremltools calibrates the very file it "
            f"quantizes. Export with --resolution {program.size}."
        )
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / output.name
        save(package)
        quantize_package(package, program.feeds(), output)
