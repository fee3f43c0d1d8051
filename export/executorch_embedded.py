"""The Core ML package inside a .pte file, taken out for the reference evaluator."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from executorch.backends.apple.coreml import executorchcoreml
from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.exir.schema import DelegateCall

from dfnet.artifact import Artifact, verify_artifact
from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.signature import INPUTS
from export.mil import Package

_BACKEND = "CoreMLBackend"
_PACKAGE = "model.mlpackage"


class UnpackedPackage(Package):
    """A package in a temporary folder that is removed together with this object.

    ``input_names`` maps its inputs to those of ``dfnet.signature.INPUTS``.
    """

    def __init__(
        self, folder: tempfile.TemporaryDirectory[str], path: Path, input_names: Mapping[str, str]
    ) -> None:
        super().__init__(path)
        self._folder = folder
        self.input_names = input_names


def read_embedded(artifact: Artifact) -> UnpackedPackage:
    """Unpacks the one Core ML part of a file.

    Raises:
        ArtifactError: the file is altered or damaged.
        UnsupportedError: it does more than call one Core ML part, so that the package alone is not
            what the file computes.
    """
    verify_artifact(artifact)
    try:
        program = deserialize_pte_binary(artifact.path.read_bytes()).program
    except (AssertionError, ValueError, KeyError, TypeError, IndexError, OSError) as error:
        raise _fault(
            artifact, f"got {error or type(error).__name__}, needed a whole file"
        ) from error
    call, plan = _only_call(artifact, program), program.execution_plan[0]
    delegate = plan.delegates[call.delegate_index]
    data = bytes(program.backend_delegate_data[delegate.processed.index].data)
    folder = tempfile.TemporaryDirectory(prefix="coreml-")
    if not executorchcoreml.unflatten_directory_contents(data, folder.name):
        raise _fault(artifact, "got bytes that are no folder, needed a Core ML package")
    try:
        (root,) = Path(folder.name).iterdir()
        names = json.loads((root / "metadata.json").read_text())["inputNames"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _fault(artifact, f"got no input names ({error}), needed them") from error
    # The call's arguments are its inputs, in the package's order, then its outputs.
    positions = [plan.inputs.index(value) for value in call.args[: len(names)]]
    inputs = {n: INPUTS[p].name for n, p in zip(names, positions, strict=True)}
    return UnpackedPackage(folder, root / _PACKAGE, inputs)


def _only_call(artifact: Artifact, program: Any) -> DelegateCall:
    (plan,) = program.execution_plan
    calls = [i.instr_args for chain in plan.chains for i in chain.instructions]
    backends = [delegate.id for delegate in plan.delegates]
    if len(calls) != 1 or not isinstance(calls[0], DelegateCall) or backends != [_BACKEND]:
        kinds = ", ".join(type(call).__name__ for call in calls)
        raise UnsupportedError(
            f"ExecuTorch file {artifact.path}: got the steps {kinds} in "
            f"{', '.join(backends) or 'no backend'}, needed one call of {_BACKEND}. Run it on "
            "macOS, which can run the rest."
        )
    return calls[0]


def _fault(artifact: Artifact, what: str) -> ArtifactError:
    return ArtifactError(f"ExecuTorch file {artifact.path}: {what}. Export again.")
