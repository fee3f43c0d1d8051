"""Where Core ML means to run a package's operations, from its own compute plan.

Follows ``coremltools.models.compute_plan`` and ``compute_device`` of coremltools 9.0. The plan
needs macOS 14.4 and a compiled model. Not run on a Mac yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import coremltools as ct
from coremltools.models.compute_device import (
    MLComputeDevice,
    MLCPUComputeDevice,
    MLGPUComputeDevice,
    MLNeuralEngineComputeDevice,
)
from coremltools.models.compute_plan import MLComputePlan

from dfnet.errors import ArtifactError, UnsupportedError
from export.macos import macos_release, macos_version, require_macos

CPU, GPU, NEURAL_ENGINE = "CPU", "GPU", "Neural Engine"
UNKNOWN = "unknown"

_CLASSES = {
    MLNeuralEngineComputeDevice: NEURAL_ENGINE,
    MLGPUComputeDevice: GPU,
    MLCPUComputeDevice: CPU,
}
_OLDEST = (14, 4)
"""The macOS release that brought ``MLComputePlan``."""
_COMPILED_MARK = "coremldata.bin"


@dataclass(frozen=True)
class PlacedOperation:
    """One operation of the compiled program.

    ``type`` has no opset prefix. ``preferred`` and ``supported`` are among CPU, GPU, Neural Engine
    and unknown. ``cost`` is Core ML's estimate of its part of the whole, in [0, 1], or None.
    """

    name: str
    type: str
    preferred: str
    supported: tuple[str, ...]
    cost: float | None


@dataclass(frozen=True)
class Placement:
    """A program's operations in order; constants are not among them."""

    operations: tuple[PlacedOperation, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Operations per preferred device, most first."""
        return dict(Counter(o.preferred for o in self.operations).most_common())

    @property
    def costs(self) -> dict[str, float]:
        """Estimated cost per preferred device; operations without an estimate count nothing."""
        return {
            device: sum(o.cost or 0.0 for o in self.operations if o.preferred == device)
            for device in self.counts
        }

    @property
    def off_neural_engine(self) -> tuple[PlacedOperation, ...]:
        """What Core ML prefers to run elsewhere, with where it could run."""
        return tuple(o for o in self.operations if o.preferred != NEURAL_ENGINE)

    @property
    def operators(self) -> dict[str, dict[str, int]]:
        """How many operations of each type per preferred device."""
        return {
            device: dict(Counter(o.type for o in self.operations if o.preferred == device))
            for device in self.counts
        }

    @property
    def summary(self) -> str:
        """Such as ``Neural Engine 118, CPU 2 operations``."""
        return ", ".join(f"{device} {n}" for device, n in self.counts.items()) + " operations"

    def to_json(self) -> dict[str, Any]:
        return {
            "counts": self.counts,
            "costs": self.costs,
            "off_neural_engine": [asdict(o) for o in self.off_neural_engine],
        }


def require_compute_plan() -> None:
    """Whether this system can make compute plans.

    Raises:
        UnsupportedError: it is not macOS 14.4 or newer.
    """
    require_macos("Core ML compute plan")
    if macos_version() < _OLDEST:
        raise UnsupportedError(
            f"Core ML compute plan: got macOS {macos_release()}, needs macOS 14.4. Update macOS."
        )


def read_placement(compiled: Path, unit: ct.ComputeUnit, *, function: str = "main") -> Placement:
    """Core ML's plan for a compiled model (``.mlmodelc``), see ``MLModel.get_compiled_model_path``.

    It is what Core ML *anticipates* with these compute units, not a trace of a run.

    Raises:
        UnsupportedError: not macOS 14.4 or newer, or Core ML gives no plan.
        ArtifactError: ``compiled`` is no compiled model, or holds no such ML program.
    """
    require_compute_plan()
    # Core ML ends the whole process when given anything else: coremltools issue 2757.
    if not (compiled / _COMPILED_MARK).is_file():
        raise ArtifactError(
            f"Core ML compute plan: got {compiled}, needed a compiled model. Compile it first."
        )
    try:
        plan = MLComputePlan.load_from_path(path=str(compiled), compute_units=unit)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UnsupportedError(
            f"Core ML compute plan: got {error}, needed a plan. Update macOS or coremltools."
        ) from error
    program = plan.model_structure.program
    if program is None or function not in program.functions:
        raise ArtifactError(
            f"Core ML compute plan of {compiled}: got no ML program with the function "
            f"{function!r}, needed one. Export again."
        )
    operations = _walk(program.functions[function].block)
    placed = (_place(plan, operation) for operation in operations)
    return Placement(tuple(one for one in placed if one is not None))


def _walk(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _walk(inner)


def _place(plan: MLComputePlan, operation: Any) -> PlacedOperation | None:
    """None for constants, which run nowhere."""
    # Compiled programs say ios17.conv where packages say conv.
    kind = operation.operator_name.rpartition(".")[2]
    if kind == "const" or kind.startswith("constexpr_"):
        return None
    usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
    cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
    return PlacedOperation(
        name=operation.outputs[0].name if operation.outputs else kind,
        type=kind,
        preferred=_device(usage.preferred_compute_device) if usage else UNKNOWN,
        supported=tuple(_device(d) for d in usage.supported_compute_devices) if usage else (),
        cost=None if cost is None else float(cost.weight),
    )


def _device(device: MLComputeDevice) -> str:
    names = (name for class_, name in _CLASSES.items() if isinstance(device, class_))
    return next(names, UNKNOWN)
