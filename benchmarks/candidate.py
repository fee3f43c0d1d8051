"""Running one artifact over mosaics: its outputs, or why there are none to judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.mosaic import Mosaic
from benchmarks.parity import output_problem
from benchmarks.verdict import Verdict, failed, not_run
from dfnet.artifact import Artifact
from dfnet.capture import Image
from dfnet.errors import ArtifactError, MissingDependencyError, UnsupportedError
from dfnet.runner import Device, Runner
from export import load_runtime


@dataclass(frozen=True)
class Outputs:
    """What an artifact gave for each mosaic, in order, and where it ran."""

    device: Device
    images: tuple[Image, ...]


@dataclass(frozen=True)
class Opener:
    """Opens artifacts on this machine; picklable, so that a fresh process can do it."""

    threads: int

    def __call__(self, artifact: Artifact) -> Runner:
        """Raises as ``export.load_runtime`` and ``export.runtime.Runtime.open`` do."""
        return load_runtime(artifact.manifest.runtime).open(artifact, threads=self.threads)


def run(
    artifact: Artifact, mosaics: Sequence[Mosaic], *, threads: int
) -> tuple[Outputs, ...] | Verdict:
    """The artifact's outputs in every way this machine can execute it, see
    ``Runtime.executions``; ``not run`` when there is none, ``failed`` when one fails."""
    try:
        runtime = load_runtime(artifact.manifest.runtime)
        executions = runtime.executions(artifact, threads=threads)
    except (MissingDependencyError, UnsupportedError) as error:
        return not_run(str(error))
    except ArtifactError as error:
        return failed(str(error))
    if not executions:
        return not_run(runtime.cannot_run(artifact) or "nothing here can execute it")
    found = []
    for execution in executions:
        outputs = _execute(execution, mosaics)
        if isinstance(outputs, Verdict):
            return outputs
        found.append(outputs)
    return tuple(found)


def _execute(execution: Callable[[], Runner], mosaics: Sequence[Mosaic]) -> Outputs | Verdict:
    try:
        with execution() as runner:
            return _infer(runner, mosaics)
    except MissingDependencyError as error:
        return not_run(str(error))
    except (ArtifactError, UnsupportedError) as error:
        return failed(str(error))


def _infer(runner: Runner, mosaics: Sequence[Mosaic]) -> Outputs | Verdict:
    images: list[Image] = []
    for mosaic in mosaics:
        output = runner.infer(mosaic.feed)
        if problem := output_problem(output, mosaic):
            return failed(f"{runner.device.name}: {problem}")
        images.extend(output.values())
    return Outputs(runner.device, tuple(images))
