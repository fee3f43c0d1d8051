"""ONNX: one simplified file for ONNX Runtime's CPU provider, and for exchange with other tools."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import onnx
import onnxsim
import torch
from onnx import ModelProto, ValueInfoProto, helper

from dfnet.artifact import Artifact
from dfnet.errors import UnsupportedError
from dfnet.manifest import TensorSpec
from dfnet.profiles import Precision, Resolution
from dfnet.signature import INPUTS, OUTPUT, STRIDE
from dfnet.tensors import example_inputs
from export import onnx_default
from export.convolutions import ConvolutionCount, count_convolutions
from export.onnx_app import with_byte_pictures
from export.onnx_graph import (
    computed_in_float,
    file_convolutions,
    operators,
    strip_metadata,
    unsigned_activations,
)
from export.onnx_runner import ONNXRunner, delegation, optimized
from export.onnx_scales import read_scales
from export.runtime import Lowered, Runtime
from export.scales_check import with_scales
from export.sdk_program import SdkProgram
from export.stored import byte_spec
from quantize.program import Program

_FILE = "model.onnx"
_BACKEND = "cpu"
_OPSET = 18
"""What torch's exporter writes natively; newer opsets go through a version converter."""
_PRECISIONS = (Precision.FP32, Precision.W8A8)


class ONNX(Runtime):
    """Writes ``model.onnx``; float32 NCHW inputs and output.

    int8 recipes become quantize/dequantize pairs around every quantized operator. Activations are
    stored as uint8 (zero point + 128), the same numbers: ONNX Runtime's x86 kernels are fast for
    unsigned activations with signed weights only.
    """

    key: ClassVar[str] = "onnx"

    def lower(
        self, program: Program, *, backend: str, resolution: Resolution, folder: Path
    ) -> Lowered:
        """See ``Runtime.lower``; also raises UnsupportedError when the file lacks a convolution
        or a quantization the program has."""
        precision = program.recipe.precision
        if backend != _BACKEND or precision not in _PRECISIONS:
            raise UnsupportedError(
                f"ONNX export: got backend {backend!r} and precision {precision}, needed "
                f"{_BACKEND!r} and one of {', '.join(_PRECISIONS)}. Choose another recipe."
            )
        core, convolutions = _lower(program, resolution.require_multiple_of(STRIDE))
        _check_convolutions(core, convolutions, precision)
        model = with_byte_pictures(core) if program.recipe.app_io else core
        onnx.save(model, folder / _FILE)
        graph = optimized(folder / _FILE)
        lowered = Lowered(
            file=_FILE,
            inputs=_tensor_specs(model.graph.input),
            outputs=_tensor_specs(model.graph.output),
            delegation=delegation(graph, quantized_convolutions=convolutions.quantized),
            notes=onnx_default.NOTES if program.recipe.by_sdk else (),
            facts={
                "opset": _OPSET,
                "operators": operators(model.graph),
                "program_convolutions": convolutions.to_json(),
                "computed_in_float": computed_in_float(graph),
            },
        )
        return with_scales(lowered, program, partial(read_scales, core.graph))

    def cannot_run(self, artifact: Artifact) -> str | None:
        """None: wherever this module imports, ONNX Runtime runs."""
        return None

    def open(self, artifact: Artifact, *, threads: int) -> ONNXRunner:
        return ONNXRunner(artifact, threads=threads)


def _lower(program: Program, resolution: Resolution) -> tuple[ModelProto, ConvolutionCount]:
    """The file, and the convolutions it must have."""
    exported = _export(program, resolution)
    convolutions = count_convolutions(exported.graph)
    if not isinstance(program, SdkProgram):
        return _convert(exported), convolutions
    model = onnx_default.quantize_by_default(
        program, lambda size: _convert(_export(program, size)), resolution
    )
    strip_metadata(model)
    # How many convolutions it quantizes is the SDK's choice.
    return model, replace(convolutions, quantized=file_convolutions(model.graph).quantized)


def _export(program: Program, resolution: Resolution) -> torch.export.ExportedProgram:
    return torch.export.export(program.module(), example_inputs(resolution))


def _convert(exported: torch.export.ExportedProgram) -> ModelProto:
    converted: Any = torch.onnx.export(
        exported,
        (),
        dynamo=True,
        input_names=[spec.name for spec in INPUTS],
        output_names=[OUTPUT],
        opset_version=_OPSET,
        verbose=False,
    )
    simplified, _ = onnxsim.simplify(converted.model_proto, certify=False)
    strip_metadata(simplified)
    model = unsigned_activations(simplified)
    onnx.checker.check_model(model, full_check=True)
    return model


def _check_convolutions(model: ModelProto, needed: ConvolutionCount, precision: Precision) -> None:
    found = file_convolutions(model.graph)
    if found != needed:
        raise UnsupportedError(
            f"ONNX export: got {found.total} convolutions, {found.quantized} of them quantized, "
            f"needed {needed.total} and {needed.quantized}. Choose another recipe or runtime."
        )
    if not found.total or (precision is Precision.W8A8) != (found.quantized > 0):
        raise UnsupportedError(
            f"ONNX export, {precision}: got {found.quantized} quantized of {found.total} "
            "convolutions, needed some exactly for int8. Choose another recipe."
        )


def _tensor_specs(values: Iterable[ValueInfoProto]) -> tuple[TensorSpec, ...]:
    return tuple(
        _tensor_spec(
            value.name,
            tuple(d.dim_value for d in value.type.tensor_type.shape.dim),
            helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
        )
        for value in values
    )


def _tensor_spec(name: str, shape: tuple[int, ...], dtype: str) -> TensorSpec:
    return byte_spec(name, shape) if dtype == "uint8" else TensorSpec(name, shape, dtype, "NCHW")
