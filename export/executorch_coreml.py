"""Core ML inside ExecuTorch: compiled here, run by iOS (or macOS) only."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import coremltools
from coremltools.proto import Model_pb2
from executorch.backends.apple.coreml import executorchcoreml
from executorch.backends.apple.coreml.compiler import CoreMLBackend
from executorch.backends.apple.coreml.partition import CoreMLPartitioner
from executorch.exir import EdgeProgramManager
from executorch.exir.backend.partitioner import Partitioner
from executorch.exir.lowered_backend_module import LoweredBackendModule
from google.protobuf.message import DecodeError

from dfnet.errors import UnsupportedError
from dfnet.profiles import Precision
from export.executorch_backend import Backend, lowered_modules

_COMPUTE = {
    Precision.FP32: coremltools.precision.FLOAT32,
    Precision.FP16: coremltools.precision.FLOAT16,
    # What the int8 recipes keep float, and what int8 operators compute in on the Neural Engine.
    Precision.W8A8: coremltools.precision.FLOAT16,
}
_PACKAGE = "model.mlpackage"
_MODEL = f"{_PACKAGE}/Data/com.apple.CoreML/model.mlmodel"
_WEIGHTS = f"{_PACKAGE}/Data/com.apple.CoreML/weights/weight.bin"
_DEBUG_ONLY = ("debug_info.json", f"{_PACKAGE}/executorch_debug_handle_mapping.json")
"""Which torch operator became which Core ML one; only ExecuTorch's profiler reads them. They were
0.5 of the 0.73 MB of a small int8 file."""


class CoreML(Backend):
    """A Core ML package (iOS 17 and later) per delegated part, inside the .pte file."""

    key: ClassVar[str] = "coreml"
    precisions: ClassVar[tuple[Precision, ...]] = tuple(_COMPUTE)
    notes: ClassVar[tuple[str, ...]] = (
        "Needs iOS 17 or macOS 14; the Core ML package inside is compiled on the device at first "
        "load.",
    )

    def partitioner(self, precision: Precision, *, by_sdk: bool) -> Partitioner:
        return CoreMLPartitioner(
            compile_specs=CoreMLBackend.generate_compile_specs(
                compute_precision=_COMPUTE[precision],
                minimum_deployment_target=coremltools.target.iOS17,
            )
        )

    def finish(self, program: EdgeProgramManager) -> dict[str, Any]:
        """Drops the debug maps and reads every package back: a file that cannot run here must at
        least be whole."""
        return {"coreml_packages": [_repack(module) for module in lowered_modules(program)]}


def _repack(module: LoweredBackendModule) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        if not executorchcoreml.unflatten_directory_contents(module.processed_bytes, scratch):
            raise _not_whole("got bytes that are no folder")
        (root,) = Path(scratch).iterdir()
        facts = _describe(root)
        for name in _DEBUG_ONLY:
            (root / name).unlink(missing_ok=True)
        # ExecuTorch has no public way to change a compiled part.
        module._processed_bytes = executorchcoreml.flatten_directory_contents(str(root))
    return facts


def _describe(root: Path) -> dict[str, Any]:
    model = Model_pb2.Model()
    try:
        model.ParseFromString((root / _MODEL).read_bytes())
        weights_bytes = (root / _WEIGHTS).stat().st_size
    except (OSError, DecodeError) as error:
        raise _not_whole(str(error)) from error
    operators = Counter(_operators(model))
    if not operators:
        raise _not_whole("got no operators")
    return {
        "specification_version": model.specificationVersion,
        "operators": dict(sorted(operators.items())),
        "weights_bytes": weights_bytes,
    }


def _operators(model: Any) -> Iterator[str]:
    """Names of the program's operators, constants left out."""
    for function in model.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from (
                operation.type for operation in block.operations if operation.type != "const"
            )


def _not_whole(reason: str) -> UnsupportedError:
    return UnsupportedError(
        f"ExecuTorch Core ML part: {reason}, needed a whole Core ML package. Use a float "
        "recipe, or the coreml runtime."
    )
