"""Core ML: an ML program package for iOS 17 and newer.

Lowering works on every system. Core ML itself runs on macOS only; parity and quality are judged
everywhere by the reference evaluator (export.mil) on the saved package, latency on macOS alone.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import torch
from torch.export import ExportedProgram

from dfnet.artifact import Artifact
from dfnet.errors import UnsupportedError
from dfnet.manifest import TensorSpec
from dfnet.profiles import Precision, Resolution
from dfnet.signature import INPUTS, OUTPUT, STRIDE
from dfnet.tensors import example_inputs
from export import coreml_default
from export.convolutions import count_convolutions
from export.coreml_app import LevelPictures, image_types
from export.coreml_bundle import merge_packages, weight_bytes
from export.coreml_check import Needed, check_structure
from export.coreml_package import normalise_package
from export.coreml_runner import ComputeUnit, CoreMLRunner
from export.coreml_structure import read_structure
from export.mil import Package
from export.mil_runner import evaluator_executions
from export.mil_scales import computed_in_float, read_scales
from export.runtime import Lowered, Opener, Runtime
from export.scales_check import with_scales
from export.sdk_program import SdkProgram
from export.stored import byte_spec
from quantize.program import Program
from quantize.recipe import Recipe

_FILE = "model.mlpackage"
_BACKEND = "coreml"
_SPECIFICATION = 8
"""Core ML specification version of iOS 17, the first with int8 activations."""
_OLDEST_MACOS = 14
"""The macOS release of the same specification; bundles need the next one, as iOS 18."""

_ARITHMETIC = {
    Precision.FP32: "float32",
    Precision.FP16: "float16",
    Precision.W8: "float16",
    Precision.W8A8: "float16",
}
"""Type of float values inside the program, per supported precision. The Neural Engine computes in
float16 only; Core ML may compute more precisely than the type says."""

_NOT_RUN = "Operator placement is unknown: Core ML's compute plan needs macOS."
_RECOMMENDED = "On iOS prefer fp16 or w8 until a device shows int8 activations to be faster."


class CoreML(Runtime):
    """Writes ``model.mlpackage``; float32 inputs and output in every precision."""

    key: ClassVar[str] = "coreml"

    def lower(
        self, program: Program, *, backend: str, resolution: Resolution, folder: Path
    ) -> Lowered:
        """See ``Runtime.lower``; also raises UnsupportedError when the saved file lacks something
        the program has."""
        precision = program.recipe.precision
        if backend != _BACKEND or precision not in _ARITHMETIC:
            raise UnsupportedError(
                f"Core ML export: got backend {backend!r} and precision {precision}, needed "
                f"{_BACKEND!r} and one of {', '.join(_ARITHMETIC)}. Choose another recipe."
            )
        example = example_inputs(resolution.require_multiple_of(STRIDE))
        module = LevelPictures(program.module()) if program.recipe.app_io else program.module()
        exported = torch.export.export(module, example).run_decompositions({})
        package = folder / _FILE
        _write(program, exported, package, resolution)
        structure, function = read_structure(package), Package(package).function()
        needed = _needed(exported, program.recipe, example)
        if program.recipe.by_sdk:  # how many convolutions it quantizes is the SDK's choice
            chosen = replace(needed.convolutions, quantized=structure.convolutions.int8_inputs)
            needed = replace(needed, convolutions=chosen)
        check_structure(structure, needed)
        lowered = Lowered(
            file=_FILE,
            inputs=structure.inputs,
            outputs=structure.outputs,
            delegation=None,
            notes=_notes(program.recipe),
            facts={
                "minimum_deployment_target": "iOS17",
                "arithmetic": _ARITHMETIC[precision],
                "program_convolutions": needed.convolutions.to_json(),
                "structure": structure.to_json(),
                "computed_in_float": computed_in_float(function),
            },
        )
        return with_scales(lowered, program, lambda: read_scales(function))

    def merge(self, files: Mapping[str, Path], target: Path) -> None:
        """See ``Runtime.merge``: a function of each name; needs iOS 18."""
        merge_packages(files, target)

    def constant_bytes(self, path: Path) -> int:
        return weight_bytes(path)

    def cannot_run(self, artifact: Artifact) -> str | None:
        if platform.system() != "Darwin":
            return "needs macOS"
        release, oldest = platform.mac_ver()[0], _OLDEST_MACOS + bool(artifact.manifest.entry)
        if int(release.partition(".")[0] or 0) < oldest:
            return f"needs macOS {oldest} or newer, this is {release}"
        return None

    def executions(self, artifact: Artifact, *, threads: int) -> tuple[Opener, ...]:
        """The reference evaluator's on every system; on macOS also Core ML's, per compute unit."""
        package = Package(artifact.path)
        evaluated = evaluator_executions(package, artifact.manifest, entry=artifact.manifest.entry)
        if self.cannot_run(artifact):
            return evaluated
        return (*evaluated, *(partial(CoreMLRunner, artifact, unit) for unit in ComputeUnit))

    def open(self, artifact: Artifact, *, threads: int) -> CoreMLRunner:
        """See ``Runtime.open``. Core ML chooses its own threads and accelerators."""
        reason = self.cannot_run(artifact)
        if reason is not None:
            raise UnsupportedError(
                f"Artifact {artifact.id}: cannot run here, it {reason}. Run it on such a system."
            )
        return CoreMLRunner(artifact, ComputeUnit.ALL)


def _notes(recipe: Recipe) -> tuple[str, ...]:
    if recipe.by_sdk:
        return (*coreml_default.NOTES, _NOT_RUN)
    return (_NOT_RUN, _RECOMMENDED) if recipe.precision is Precision.W8A8 else (_NOT_RUN,)


def _write(
    program: Program, exported: ExportedProgram, package: Path, resolution: Resolution
) -> None:
    def save(path: Path) -> None:
        example = example_inputs(resolution)
        _convert(exported, program.recipe, example).save(str(path))

    if isinstance(program, SdkProgram):
        coreml_default.quantize_by_default(program, save, package, resolution)
    else:
        save(package)
        normalise_package(package)


def _convert(exported: ExportedProgram, recipe: Recipe, example: tuple[torch.Tensor, ...]) -> Any:
    half = _ARITHMETIC[recipe.precision] == "float16"
    inputs, outputs = image_types(example) if recipe.app_io else _array_types(example)
    model = ct.convert(
        exported,
        inputs=inputs,
        outputs=outputs,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        skip_model_load=True,
    )
    if recipe.precision is not Precision.W8:
        return model
    # The default threshold leaves small weights float; naming the operators leaves other constants
    # of the network alone.
    weights = cto.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=0
    )
    operators = {"conv": weights, "conv_transpose": weights}
    return cto.linear_quantize_weights(model, cto.OptimizationConfig(op_type_configs=operators))


def _array_types(
    example: tuple[torch.Tensor, ...],
) -> tuple[list[ct.TensorType], list[ct.TensorType]]:
    inputs = [
        ct.TensorType(spec.name, tuple(tensor.shape), dtype=np.float32)
        for spec, tensor in zip(INPUTS, example, strict=True)
    ]
    return inputs, [ct.TensorType(OUTPUT, dtype=np.float32)]


def _needed(exported: ExportedProgram, recipe: Recipe, example: tuple[torch.Tensor, ...]) -> Needed:
    """What the program says the package must be."""
    results = exported.graph.output_node().args[0]
    if not isinstance(results, tuple) or len(results) != 1:
        raise UnsupportedError(
            "Network output: got several tensors, needed the picture alone. Return one tensor."
        )
    spec_of = _image_spec if recipe.app_io else _float_spec
    return Needed(
        inputs=tuple(
            spec_of(spec.name, tensor) for spec, tensor in zip(INPUTS, example, strict=True)
        ),
        outputs=(spec_of(OUTPUT, results[0].meta["val"]),),
        specification_version=_SPECIFICATION,
        arithmetic=_ARITHMETIC[recipe.precision],
        precision=recipe.precision,
        convolutions=count_convolutions(exported.graph),
    )


def _float_spec(name: str, tensor: torch.Tensor) -> TensorSpec:
    return TensorSpec(name, tuple(int(n) for n in tensor.shape), "float32", "NCHW")


def _image_spec(name: str, tensor: torch.Tensor) -> TensorSpec:
    _, channels, height, width = tensor.shape
    return byte_spec(name, (1, height, width, channels))
