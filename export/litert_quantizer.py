"""What ai-edge-quantizer makes of a float .tflite file: half-size weights, or 16-bit activations.

The shared graph quantizes activations to 8 bits, and no litert-torch lowering stores fp16
weights, so these two rewrite the file itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_quantizer import qtyping, recipe
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.calibrator import CalibrationMode, Calibrator
from ai_edge_quantizer.quantizer import Quantizer
from ai_edge_quantizer.utils import qsv_utils

from dfnet.errors import CalibrationError, UnsupportedError
from dfnet.signature import Feed
from export.litert_graph import tensor_names

Ranges = Mapping[str, Mapping[str, npt.NDArray[np.float32]]]
"""Tensor name -> its ``min`` and ``max`` over the calibration feeds."""

_EVERYTHING = ".*"


def cast_weights(model: bytes) -> bytes:
    """``model`` with its convolutions' weights stored as float16, widened again when it is loaded.

    Biases, activations and arithmetic stay float32.
    """
    quantizer = Quantizer(model)
    quantizer.update_quantization_recipe(
        regex=_EVERYTHING,
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        algorithm_key=AlgorithmName.FLOAT_CASTING,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                num_bits=16, dtype=qtyping.TensorDataType.FLOAT
            ),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
    )
    return _result(quantizer, None)


class RangeMeter:
    """Measures what every tensor of a float file reaches over the feeds it is given.

    Uses the true minimum and maximum: ``Quantizer.calibrate`` would take a moving average seeded
    by the first feed, which cost 27 dB where it was measured.
    """

    def __init__(self, model: bytes, *, signature: str) -> None:
        self._signature = signature
        self._recipes = _int16_quantizer(model)._recipe_manager
        self._calibrator = Calibrator(
            memoryview(model),
            num_threads=1,
            # The default mode keeps every tensor in memory, warns, and finds the same ranges.
            mode=CalibrationMode.CALIBRATION_PROFILER_BASED,
            qsv_update_func=qsv_utils.min_max_update,
        )

    def add(self, feed: Feed) -> None:
        self._calibrator.calibrate({self._signature: [dict(feed)]}, self._recipes)

    def ranges(self) -> Ranges:
        """Raises CalibrationError when a tensor reached a value that is not finite."""
        measured: dict[str, Any] = self._calibrator.get_model_qsvs()
        for name, span in measured.items():
            if not all(np.isfinite(limit).all() for limit in span.values()):
                raise CalibrationError(
                    f"LiteRT calibration: got values that are not finite at {name}, needed finite "
                    "ones everywhere. Check the network's weights."
                )
        return measured


def merge_ranges(parts: Iterable[Ranges]) -> Ranges:
    """The hull of ranges measured on one network at several sizes."""
    merged: dict[str, Any] = {}
    for part in parts:
        for name, span in part.items():
            merged[name] = qsv_utils.min_max_update(merged.get(name, {}), span)
    return merged


def quantize_int16(model: bytes, ranges: Ranges) -> bytes:
    """``model`` with int8 weights and int16 activations; float32 inputs and output.

    ``ranges`` may come from the same network lowered at another size, which has the same tensors.

    Raises:
        UnsupportedError: ``ranges`` belong to another network.
    """
    unknown = sorted(set(ranges) - tensor_names(model))
    if unknown:
        raise UnsupportedError(
            f"LiteRT w8a16: got ranges for {unknown[0]!r}, which the file to quantize lacks; "
            "needed the ranges of the same network. Calibrate again."
        )
    return _result(_int16_quantizer(model), ranges)


def _int16_quantizer(model: bytes) -> Quantizer:
    quantizer = Quantizer(model, recipe.static_wi8_ai16())
    for edge in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        quantizer.update_quantization_recipe(
            regex=_EVERYTHING, operation_name=edge, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    return quantizer


def _result(quantizer: Quantizer, ranges: Ranges | None) -> bytes:
    quantized = quantizer.quantize(
        ranges, enable_progress_bar=False, enable_progress_report=False
    ).quantized_model
    return bytes(quantized)
