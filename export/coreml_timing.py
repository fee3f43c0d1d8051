"""What ``python -m export.coreml_measure`` does, with Core ML Tools' own benchmarker.

The benchmarker times inside its binding to Core ML, so Python's overhead is not in the samples.
It is coremltools' experimental interface, followed as of 9.0. Tested with a stand-in for Core ML,
not on a Mac yet.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

from dfnet.artifact import Artifact, read_artifact
from dfnet.console import EXIT_OK, Progress, results_console
from dfnet.errors import ArtifactError, UnsupportedError
from export.coreml_plan import (
    CPU,
    GPU,
    NEURAL_ENGINE,
    Placement,
    read_placement,
    require_compute_plan,
)
from export.coreml_runner import ComputeUnit, load_model
from export.macos import PowerState, chip, mac_model, macos_release, power_state
from export.mil.golden import Inputs
from export.sdk_log import temporary_sdk_log

PROTOCOL = 1
"""Of docs/device-protocol.md."""

_UNITS = {CPU: "cpu", GPU: "gpu", NEURAL_ENGINE: "neural_engine"}
_ASKED = {
    ComputeUnit.ALL: ["cpu", "gpu", "neural_engine"],
    ComputeUnit.CPU: ["cpu"],
    ComputeUnit.CPU_AND_GPU: ["cpu", "gpu"],
    ComputeUnit.CPU_AND_NEURAL_ENGINE: ["cpu", "neural_engine"],
}
_SEED = 0


@dataclass(frozen=True)
class Schedule:
    """How often to time; see ``python -m export.coreml_measure --help``."""

    repeats: int
    warmups: int
    runs: int
    seconds: float


def time_artifact(folder: Path, unit: str, output: Path, schedule: Schedule) -> int:
    """Times the artifact in ``folder`` and writes ``output``, whole or not at all; exit code.

    Raises:
        UnsupportedError: an unknown unit, an artifact of another runtime, or a macOS that cannot
            tell which units run.
        ArtifactError: the artifact is not what its manifest says, Core ML refuses it, or
            ``output`` cannot be written.
    """
    chosen = _parse_unit(unit)
    artifact = read_artifact(folder)
    if artifact.manifest.runtime != "coreml":
        raise UnsupportedError(
            f"Artifact {artifact.id}: got the runtime {artifact.manifest.runtime}, needed coreml. "
            "Choose a Core ML artifact."
        )
    if chosen is not ComputeUnit.CPU:
        require_compute_plan()
    with Progress(total=schedule.repeats) as progress, temporary_sdk_log():
        result = measure(artifact, chosen, schedule, progress)
    _write(output, result)
    medians = [float(np.median(repeat["samples_ms"])) for repeat in result["repeats"]]
    ran = "+".join(result["accelerator"]["ran"])
    results_console().print(
        f"{artifact.id}: {np.median(medians):.2f} ms on {ran}, in {output}.", markup=False
    )
    return EXIT_OK


def measure(
    artifact: Artifact, unit: ComputeUnit, schedule: Schedule, progress: Progress
) -> dict[str, Any]:
    """The result.json of ``artifact`` as plain data; raises as ``time_artifact``."""
    inputs = _random_inputs(artifact)
    repeats = []
    for number in range(schedule.repeats):
        with progress.step(f"Repeat {number + 1}"):
            repeats.append(_repeat(artifact.path, unit, inputs, schedule))
    accelerator, doubts = _accelerator(artifact.path, unit)
    return {
        "protocol": PROTOCOL,
        "artifact_sha256": artifact.manifest.artifact_sha256,
        "device": {
            "kind": "host",
            "name": f"Mac ({chip()})" if chip() else "Mac",
            "model": mac_model(),
            "os": "macOS",
            "os_version": macos_release(),
            "soc": chip(),
        },
        "runner": {
            "name": "coreml_measure",
            "version": f"coremltools {ct.__version__}",
            "abi": platform.machine(),
            "libc": None,
        },
        "accelerator": accelerator,
        "threads": None,
        "cold": "load",
        # The benchmarker compiles before it starts its clock, and does not tell how long it took.
        "compile_ms": None,
        "repeats": repeats,
        # Core ML allocates in processes of the system too, which this one cannot see.
        "peak_memory_mb": None,
        "doubts": doubts,
        "error": None,
    }


def _parse_unit(unit: str) -> ComputeUnit:
    try:
        return ComputeUnit(unit)
    except ValueError:
        raise UnsupportedError(
            f"Compute unit: got {unit!r}, needed one of {', '.join(ComputeUnit)}."
        ) from None


def _random_inputs(artifact: Artifact) -> Inputs:
    """Seeded values in [0, 1) of the shapes of the file's inputs; time does not depend on them."""
    rng = np.random.default_rng(_SEED)
    specs = artifact.manifest.inputs
    return {spec.name: rng.random(spec.shape, dtype=np.float32) for spec in specs}


def _repeat(package: Path, unit: ComputeUnit, inputs: Inputs, schedule: Schedule) -> dict[str, Any]:
    before = power_state()
    try:
        with warnings.catch_warnings():
            # coremltools only warns when Core ML refuses a package.
            warnings.simplefilter("error", RuntimeWarning)
            times = asyncio.run(_benchmark(package, unit, inputs, schedule))
    except (RuntimeWarning, RuntimeError, ValueError, OSError) as error:
        raise ArtifactError(
            f"Core ML package {package}: cannot be timed ({error}). Export again."
        ) from error
    return {**times, **_conditions(before, power_state())}


async def _benchmark(
    package: Path, unit: ComputeUnit, inputs: Inputs, schedule: Schedule
) -> dict[str, Any]:
    model = ct.models.MLModel(str(package), compute_units=unit.coremltools, skip_model_load=True)
    benchmarker = MLModelBenchmarker(model)

    async def run(iterations: int) -> list[float]:
        if iterations == 0:
            return []
        done = await benchmarker.benchmark_predict(inputs=inputs, iterations=iterations)
        return [float(sample) for sample in done.samples]

    (load_ms,) = (await benchmarker.benchmark_load(iterations=1)).samples
    (first_ms,) = await run(1)
    warmup_ms = await run(schedule.warmups)
    samples_ms = await run(schedule.runs)
    while sum(samples_ms) < schedule.seconds * 1e3:
        samples_ms += await run(schedule.runs)
    return {
        "load_ms": float(load_ms),
        "first_ms": first_ms,
        "warmup_ms": warmup_ms,
        "samples_ms": samples_ms,
    }


def _conditions(before: PowerState, after: PowerState) -> dict[str, Any]:
    return {
        "thermal_before": before.thermal,
        "thermal_after": after.thermal,
        "battery_percent": before.battery_percent,
        "charging": before.plugged_in,
        "low_power_mode": _either(before.low_power_mode, after.low_power_mode),
    }


def _either(before: bool | None, after: bool | None) -> bool | None:
    """None when neither is known to be true and one is not known."""
    if before or after:
        return True
    return None if before is None or after is None else False


def _accelerator(package: Path, unit: ComputeUnit) -> tuple[dict[str, Any], list[str]]:
    """What ran as Core ML's compute plan has it, and what is doubtful about that."""
    asked = _ASKED[unit]
    try:
        model = load_model(package, unit)
        placement = read_placement(Path(model.get_compiled_model_path()), unit.coremltools)
    except UnsupportedError:
        if unit is not ComputeUnit.CPU:
            raise
        only = {"asked": asked, "ran": asked, "evidence": "only choice", "placement": None}
        return only, []
    known = {_UNITS[d]: types for d, types in placement.operators.items() if d in _UNITS}
    if not known:
        raise UnsupportedError(
            f"Core ML compute plan of {package}: got no operation with a known device, needed "
            "some. Measure with --unit cpu."
        )
    ran = {"asked": asked, "ran": list(known), "evidence": "plan", "placement": known}
    return ran, _doubts(placement)


def _doubts(placement: Placement) -> list[str]:
    unknown = sum(n for device, n in placement.counts.items() if device not in _UNITS)
    return [f"{unknown} operations without a known device"] if unknown else []


def _write(output: Path, result: dict[str, Any]) -> None:
    temporary = output.with_name(output.name + ".part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, output)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ArtifactError(
            f"Result {output}: cannot be written ({error.strerror or error}). Choose a writable "
            "--output."
        ) from error
