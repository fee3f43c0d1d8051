"""ExecuTorch: one .pte file; XNNPACK computes it on Android, Core ML on iOS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from executorch.devtools.backend_debug import get_delegation_info
from executorch.exir import EdgeProgramManager, to_edge_transform_and_lower
from executorch.exir.backend.partitioner import Partitioner
from executorch.exir.error import ExportError, InternalError
from executorch.exir.scalar_type import ScalarType
from executorch.extension.pybindings import portable_lib
from torch import nn

from dfnet.artifact import Artifact
from dfnet.errors import UnsupportedError
from dfnet.manifest import Delegation, TensorSpec
from dfnet.profiles import Precision, Resolution
from dfnet.signature import INPUTS, OUTPUT, STRIDE, Feed
from dfnet.tensors import example_inputs
from export import executorch_default
from export.app_io import BytePictures, byte_examples
from export.convolutions import ConvolutionCount, count_convolutions
from export.executorch_backend import Backend, load_backend
from export.executorch_bundle import constant_bytes, merge_programs
from export.executorch_embedded import read_embedded
from export.executorch_profile import profile
from export.executorch_runner import METHOD, ExecuTorchRunner
from export.executorch_scales import computed_in_float, read_scales
from export.mil_runner import evaluator_executions
from export.runtime import Lowered, Opener, Runtime
from export.scales_check import with_scales
from export.sdk_program import SdkProgram
from export.stored import byte_spec
from quantize.program import Program

_FILE = "model.pte"
_NOT_OPERATORS = frozenset({"getitem", "alloc"})
"""Bookkeeping of the graph: picks the one result of a delegated part, reserves memory."""
_CONVOLUTION = "aten_conv"
_NEEDS_MACOS = {"coreml": "CoreMLBackend"}
"""Backends whose runtime is in macOS wheels only, and what the runtime calls them."""


class ExecuTorch(Runtime):
    """Writes ``model.pte`` with one method, ``forward``: float32 NCHW inputs in the order of
    ``dfnet.signature.INPUTS``, by position, and one output.

    int8 recipes keep float32 at the file's face; quantizing is its first step.
    """

    key: ClassVar[str] = "executorch"

    def lower(
        self, program: Program, *, backend: str, resolution: Resolution, folder: Path
    ) -> Lowered:
        """See ``Runtime.lower``."""
        target = load_backend(backend)
        precision = program.recipe.precision
        _require_supported(target, precision)
        # Contiguous example inputs: with channels-last ones ExecuTorch writes a file that takes
        # contiguous inputs without an error and returns garbage.
        size = resolution.require_multiple_of(STRIDE)
        app = program.recipe.app_io
        example = byte_examples(size) if app else example_inputs(size)
        exported = torch.export.export(_module(program), example)
        edge = _lower(exported, target, target.partitioner(precision, by_sdk=program.recipe.by_sdk))
        facts = target.finish(edge)
        buffer = bytes(edge.to_executorch().buffer)
        (folder / _FILE).write_bytes(buffer)
        inputs, outputs = _tensor_specs(buffer)
        delegation = _delegation(edge, backend)
        convolutions = count_convolutions(exported.graph)
        lowered = Lowered(
            file=_FILE,
            inputs=inputs,
            outputs=outputs,
            delegation=delegation,
            notes=(
                *(executorch_default.NOTES if program.recipe.by_sdk else ()),
                *target.notes,
                *_notes(delegation, convolutions, precision),
            ),
            facts={
                "program_convolutions": convolutions.to_json(),
                "computed_in_float": _computed_in_float(buffer, delegation),
                **facts,
            },
        )
        return with_scales(lowered, program, partial(read_scales, buffer))

    def merge(self, files: Mapping[str, Path], target: Path) -> None:
        """See ``Runtime.merge``: a method of each name."""
        programs = {name: file.read_bytes() for name, file in files.items()}
        target.write_bytes(merge_programs(programs))

    def constant_bytes(self, path: Path) -> int:
        return constant_bytes(path.read_bytes())

    def cannot_run(self, artifact: Artifact) -> str | None:
        """Core ML parts need Core ML, which ExecuTorch's wheels hold on macOS only."""
        needed = _NEEDS_MACOS.get(artifact.manifest.backend)
        if needed is None or needed in portable_lib._get_registered_backend_names():
            return None
        return "needs macOS"

    def executions(self, artifact: Artifact, *, threads: int) -> tuple[Opener, ...]:
        """For a Core ML part off macOS: the package inside the file, in the reference evaluator."""
        if artifact.manifest.backend != "coreml" or not self.cannot_run(artifact):
            return super().executions(artifact, threads=threads)
        package = read_embedded(artifact)
        return evaluator_executions(package, artifact.manifest, inputs=package.input_names)

    def open(self, artifact: Artifact, *, threads: int) -> ExecuTorchRunner:
        if reason := self.cannot_run(artifact):
            raise UnsupportedError(
                f"ExecuTorch file {artifact.path}: got this machine, {reason}. Run it there."
            )
        return ExecuTorchRunner(artifact, threads=threads)

    def profile(self, artifact: Artifact, feed: Feed, *, threads: int) -> dict[str, float]:
        """By ETDump; see ``export.executorch_profile``."""
        with self.open(artifact, threads=threads):  # it sets the threads
            return profile(artifact, feed)


def _require_supported(backend: Backend, precision: Precision) -> None:
    if precision not in backend.precisions:
        raise UnsupportedError(
            f"ExecuTorch export with {backend.key}: got precision {precision}, needed one of "
            f"{', '.join(backend.precisions)}. Choose another recipe."
        )


def _module(program: Program) -> nn.Module:
    if isinstance(program, SdkProgram):
        return executorch_default.quantize_by_default(program)
    return BytePictures(program.module()) if program.recipe.app_io else program.module()


def _lower(
    exported: torch.export.ExportedProgram, backend: Backend, partitioner: Partitioner
) -> EdgeProgramManager:
    try:
        return to_edge_transform_and_lower(exported, partitioner=[partitioner])
    except (RuntimeError, ValueError, ExportError, InternalError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnsupportedError(
            f"ExecuTorch export with {backend.key}: cannot lower this network ({reason}). "
            "Replace the operator it names."
        ) from error


def _delegation(edge: EdgeProgramManager, backend: str) -> Delegation:
    info = get_delegation_info(edge.exported_program().graph_module)
    counts = [
        (name, count.delegated, count.non_delegated)
        for name, count in sorted(info.delegation_by_operator.items())
        if name not in _NOT_OPERATORS
    ]
    places = {
        backend: {name: inside for name, inside, _ in counts if inside},
        "portable": {name: outside for name, _, outside in counts if outside},
    }
    return Delegation(
        delegate_calls=info.num_delegated_subgraphs,
        undelegated_convolutions=sum(
            outside for name, _, outside in counts if name.startswith(_CONVOLUTION)
        ),
        placement={place: operators for place, operators in places.items() if operators},
    )


def _computed_in_float(buffer: bytes, delegation: Delegation) -> dict[str, int]:
    """Counts by operator; the portable kernels have floating point only."""
    counts = Counter(delegation.placement.get("portable", {}))
    return dict(sorted((counts + Counter(computed_in_float(buffer))).items()))


def _tensor_specs(buffer: bytes) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs as the file states them; a .pte has positions, the names are ours."""
    meta = portable_lib._load_program_from_buffer(buffer).method_meta(METHOD)
    if (meta.num_inputs(), meta.num_outputs()) != (len(INPUTS), 1):
        raise UnsupportedError(
            f"ExecuTorch export: got a file of {meta.num_inputs()} inputs and "
            f"{meta.num_outputs()} outputs, needed {len(INPUTS)} and 1. Export a network with "
            "the signature of dfnet.signature."
        )
    inputs = (_spec(s.name, meta.input_tensor_meta(i)) for i, s in enumerate(INPUTS))
    return tuple(inputs), (_spec(OUTPUT, meta.output_tensor_meta(0)),)


def _spec(name: str, info: Any) -> TensorSpec:
    dtype = ScalarType(info.dtype())
    if dtype is ScalarType.BYTE:
        return byte_spec(name, info.sizes())
    if dtype is not ScalarType.FLOAT:
        raise UnsupportedError(
            f"ExecuTorch export: got {name} as {dtype.name}, needed FLOAT or BYTE. "
            "Export a float32 network."
        )
    return TensorSpec(name, tuple(info.sizes()), "float32", "NCHW")


def _notes(
    delegation: Delegation, convolutions: ConvolutionCount, precision: Precision
) -> Iterator[str]:
    left = convolutions.total - convolutions.quantized
    if precision is Precision.W8A8 and left:
        yield f"{left} of {convolutions.total} convolutions stay float."
    if portable := delegation.placement.get("portable"):
        operators = ", ".join(f"{count} {name}" for name, count in portable.items())
        yield f"Not delegated, on ExecuTorch's portable kernels: {operators}."
