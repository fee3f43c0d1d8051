"""Where two executions of one network part ways: the first operation below a signal-to-noise bar.

Operations are matched by name. coremltools names a result after the node of the torch graph it
comes from and adds suffixes where it casts, so packages of one network in several precisions, and
the graph itself, share most of their names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.export import ExportedProgram

from dfnet.errors import ArtifactError, MetricError
from export.mil.features import Feature
from export.mil.predict import Evaluator

_CAST_SUFFIX = re.compile(r"(_cast_\w+?\d+)+$")
_RESCALED = 4.0
"""A result larger or smaller by this factor is held in other units, not wrong; a fault that large
also shows in every later operation and in the output. A choice of ours."""

_NEGLIGIBLE = 2.0**-14
"""Results that never reach float16's smallest normal number are dead and left out: they flush to
zero in float16, and no later result notices."""

_AT_ONCE = 24
"""Intermediate results held in memory together; a program runs once per so many."""


class Execution(Protocol):
    """One execution of the network whose intermediate results can be asked for."""

    def operations(self) -> dict[str, str]:
        """Operation type by the name of its result, in program order."""

    def results(self, names: Sequence[str]) -> Mapping[str, torch.Tensor]:
        """Float results by name."""


class PackageExecution:
    """A package in the evaluator, on one set of inputs."""

    def __init__(self, evaluator: Evaluator, inputs: Mapping[str, Feature]) -> None:
        self._evaluator, self._inputs = evaluator, inputs

    def operations(self) -> dict[str, str]:
        return {
            name: operation.type
            for operation in self._evaluator.program.function.body.operations
            if operation.type != "const" and not operation.type.startswith("constexpr_")
            for name, declared in operation.outputs
            if declared.dtype.is_float
        }

    def results(self, names: Sequence[str]) -> Mapping[str, torch.Tensor]:
        return self._evaluator.intermediates(self._inputs, names)


class GraphExecution:
    """An exported torch graph, on one set of inputs in its own order."""

    def __init__(self, program: ExportedProgram, inputs: Sequence[torch.Tensor]) -> None:
        self._module, self._inputs = program.module(), tuple(inputs)

    def operations(self) -> dict[str, str]:
        nodes: Any = self._module.graph.nodes
        return {
            node.name: str(node.target)
            for node in nodes
            if node.op == "call_function" and _is_float(node.meta.get("val"))
        }

    def results(self, names: Sequence[str]) -> Mapping[str, torch.Tensor]:
        recorder = _Recorder(self._module, frozenset(names))
        with torch.no_grad():
            recorder.run(*self._inputs)
        return recorder.found


@dataclass(frozen=True)
class Match:
    """One operation that both executions have.

    ``snr_db`` is the reference's energy over that of the difference; infinite for equal results.
    ``gain`` is 1, or the factor that a quantized program carries the result with: coremltools
    moves scales between operations, so a result may be held in steps of a later quantizer. Such a
    result is compared after division by its gain.
    """

    name: str
    operation: str
    snr_db: float
    gain: float = 1.0


@dataclass(frozen=True)
class Bisection:
    """Every match in the candidate's order, and the first one below the bar."""

    matches: tuple[Match, ...]
    bar_db: float

    @property
    def first(self) -> Match | None:
        """None when every match clears the bar."""
        return next((m for m in self.matches if not m.snr_db >= self.bar_db), None)


def bisect(reference: Execution, candidate: Execution, *, bar_db: float) -> Bisection:
    """Compares every result that both executions name, in the candidate's order; dead ones, below
    float16's normal numbers, are left out.

    Raises:
        MetricError: they have no name in common.
        ArtifactError: results of one name have different shapes.
    """
    known = {_canonical(name): name for name in reference.operations()}
    operations = candidate.operations()
    pairs = [(known[c], name) for name in operations if (c := _canonical(name)) in known]
    if not pairs:
        raise MetricError(
            f"Bisection: got {len(known)} and {len(operations)} operations without a common name, "
            "needed two executions of one network. Compare packages of the same export."
        )
    matches = tuple(
        Match(name, operations[name], ratio_db, gain)
        for batch in _batches(pairs)
        for name, ratio_db, gain in _compare(reference, candidate, batch)
    )
    return Bisection(matches, bar_db)


def snr_db(reference: torch.Tensor, candidate: torch.Tensor) -> float:
    """10 log10 of the reference's energy over the difference's; NaN if either is not finite."""
    signal = float(reference.double().square().sum())
    noise = float((reference.double() - candidate.double()).square().sum())
    if not math.isfinite(signal) or not math.isfinite(noise):
        return math.nan
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _compare(
    reference: Execution, candidate: Execution, pairs: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, float, float]]:
    expected = reference.results([first for first, _ in pairs])
    got = candidate.results([second for _, second in pairs])
    for first, second in pairs:
        if expected[first].shape != got[second].shape:
            raise ArtifactError(
                f"Bisection at {second}: got shape {tuple(got[second].shape)}, needed "
                f"{tuple(expected[first].shape)} like the reference."
            )
        if float(expected[first].abs().max()) < _NEGLIGIBLE:
            continue
        gain = _gain(expected[first], got[second])
        yield second, snr_db(expected[first], got[second] / gain), gain


def _gain(reference: torch.Tensor, candidate: torch.Tensor) -> float:
    """The factor of a rescaled result, by least squares; 1 where it is near 1 or meaningless, so
    that an error of gain is not forgiven."""
    energy = float(reference.double().square().sum())
    product = float((reference.double() * candidate.double()).sum())
    gain = product / energy if energy else 1.0
    return gain if math.isfinite(gain) and (gain > _RESCALED or 0 < gain < 1 / _RESCALED) else 1.0


def _batches(pairs: Sequence[tuple[str, str]]) -> Iterator[Sequence[tuple[str, str]]]:
    for start in range(0, len(pairs), _AT_ONCE):
        yield pairs[start : start + _AT_ONCE]


def _canonical(name: str) -> str:
    return _CAST_SUFFIX.sub("", name)


def _is_float(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype.is_floating_point


class _Recorder(torch.fx.Interpreter):
    """Runs a graph and keeps the results named."""

    def __init__(self, module: torch.fx.GraphModule, names: frozenset[str]) -> None:
        super().__init__(module)
        self._names = names
        self.found: dict[str, torch.Tensor] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self._names:
            self.found[n.name] = result
        return result
