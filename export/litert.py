"""LiteRT: one .tflite file, computed by XNNPACK on a phone's CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from ai_edge_litert.interpreter import Interpreter
from torch import nn

from dfnet.artifact import Artifact
from dfnet.captureset import CaptureSet
from dfnet.errors import UnsupportedError
from dfnet.manifest import Delegation, TensorSpec
from dfnet.profiles import Precision, Resolution
from dfnet.signature import STRIDE
from export import litert_default
from export.litert_app import with_byte_pictures
from export.litert_bundle import constant_bytes, merge_models
from export.litert_convert import convert, convert_int8
from export.litert_graph import (
    TRANSPOSED,
    Operator,
    computed_in_float,
    float_convolutions,
    histogram,
    input_specs,
    output_specs,
    read_delegation,
    read_operators,
)
from export.litert_int16 import Int16Program, calibrate_int16
from export.litert_quantizer import cast_weights, quantize_int16
from export.litert_runner import LiteRTRunner
from export.litert_scales import read_scales
from export.runtime import Lowered, Runtime
from export.scales_check import with_scales
from export.sdk_program import SdkProgram
from quantize.program import Program
from quantize.recipe import Recipe

_FILE = "model.tflite"
_BACKEND = "xnnpack"
_PRECISIONS = (Precision.FP32, Precision.FP16, Precision.W8A8, Precision.W8A16)

_NOTES = {
    Precision.FP16: (
        "Convolution weights are stored as float16; arithmetic and activations are float32 on a "
        "CPU.",
    ),
    Precision.W8A16: (
        "Activation ranges were measured on the LiteRT file itself by ai-edge-quantizer, because "
        "the graph shared by all runtimes has no 16-bit activations.",
        "XNNPACK takes no int16 operator, so a CPU runs this file many times slower than float32.",
    ),
}


class LiteRT(Runtime):
    """Writes ``model.tflite`` with one signature: NCHW inputs named as ``dfnet.signature.INPUTS``,
    output ``refocused``.

    In int8 recipes the converter makes an input int8 when only int8 operators read it; the
    manifest states dtype, scale and zero point of each, and the runner converts.
    """

    key: ClassVar[str] = "litert"

    def quantizes_itself(self, recipe: Recipe) -> bool:
        return super().quantizes_itself(recipe) or recipe.precision is Precision.W8A16

    def quantize(self, network: nn.Module, recipe: Recipe, calibration: CaptureSet) -> Program:
        """The shared graph, except for 16-bit activations, which it does not have."""
        if recipe.precision is Precision.W8A16:
            return calibrate_int16(network, recipe, calibration)
        return super().quantize(network, recipe, calibration)

    def lower(
        self, program: Program, *, backend: str, resolution: Resolution, folder: Path
    ) -> Lowered:
        """See ``Runtime.lower``; also raises UnsupportedError when a convolution the program
        quantizes would compute in float."""
        precision = program.recipe.precision
        _require_supported(precision, backend)
        graph = _lower(program, resolution.require_multiple_of(STRIDE))
        model = with_byte_pictures(graph) if program.recipe.app_io else graph
        (folder / _FILE).write_bytes(model)
        notes = litert_default.NOTES if program.recipe.by_sdk else _NOTES.get(precision, ())
        lowered = _describe(model, precision, notes)
        return with_scales(lowered, program, partial(read_scales, graph))

    def merge(self, files: Mapping[str, Path], target: Path) -> None:
        """See ``Runtime.merge``: a signature of each name."""
        target.write_bytes(merge_models({name: file.read_bytes() for name, file in files.items()}))

    def constant_bytes(self, path: Path) -> int:
        return constant_bytes(path.read_bytes())

    def cannot_run(self, artifact: Artifact) -> str | None:
        """None: wherever this module imports, LiteRT runs."""
        return None

    def open(self, artifact: Artifact, *, threads: int) -> LiteRTRunner:
        return LiteRTRunner(artifact, threads=threads)


def _require_supported(precision: Precision, backend: str) -> None:
    if backend != _BACKEND or precision not in _PRECISIONS:
        raise UnsupportedError(
            f"LiteRT export: got backend {backend!r} and precision {precision}, needed "
            f"{_BACKEND!r} and one of {', '.join(_PRECISIONS)}. Choose another recipe."
        )


def _lower(program: Program, resolution: Resolution) -> bytes:
    if isinstance(program, SdkProgram):
        return litert_default.quantize_by_default(program, resolution)
    if program.recipe.precision is Precision.W8A8:
        return convert_int8(program.module(fold_weights=False), resolution)
    model = convert(program.module(), resolution)
    if program.recipe.precision is Precision.FP16:
        return cast_weights(model)
    if isinstance(program, Int16Program):
        return quantize_int16(model, program.ranges)
    return model


def _describe(model: bytes, precision: Precision, notes: tuple[str, ...]) -> Lowered:
    interpreter = _loaded(model)
    operators = read_operators(model)
    inputs, outputs = input_specs(interpreter), output_specs(interpreter)
    delegation = read_delegation(interpreter, operators)
    return Lowered(
        file=_FILE,
        inputs=inputs,
        outputs=outputs,
        delegation=delegation,
        notes=(
            *notes,
            *_integer_notes((*inputs, *outputs)),
            *_portable_notes(delegation),
            *_transposed_notes(operators, precision),
        ),
        facts={
            "operators": histogram(operators),
            "float_convolutions": len(float_convolutions(operators)),
            "computed_in_float": computed_in_float(operators),
        },
    )


def _loaded(model: bytes) -> Interpreter:
    """Raises UnsupportedError where LiteRT refuses what the converter made."""
    try:
        interpreter = Interpreter(model_content=model, num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise UnsupportedError(
            f"LiteRT export: LiteRT does not load the file it converted ({error}). Replace the "
            "operator it names; see `python -m export lint`."
        ) from error
    return interpreter


def _integer_notes(specs: tuple[TensorSpec, ...]) -> Iterator[str]:
    integer = [f"{spec.name} ({spec.dtype})" for spec in specs if spec.scale is not None]
    if integer:
        yield (
            f"Stored as integers, with the scale and zero point given: {', '.join(integer)}. "
            "Every other input and output is float32."
        )


def _transposed_notes(operators: Sequence[Operator], precision: Precision) -> Iterator[str]:
    count = sum(op.name == TRANSPOSED for op in float_convolutions(operators))
    if count and precision is Precision.W8A8:
        yield (
            f"{count} transposed convolutions compute in float, because litert-torch has no int8 "
            "form of them. Upsampling followed by a convolution would be int8."
        )


def _portable_notes(delegation: Delegation) -> Iterator[str]:
    portable = delegation.placement.get("portable")
    if portable and delegation.delegate_calls:
        operators = ", ".join(f"{count} {name}" for name, count in portable.items())
        yield f"Outside XNNPACK, on LiteRT's own kernels: {operators}."
