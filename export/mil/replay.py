"""Whether a recording agrees with the reference evaluator.

Not every difference is an error: what a program declares is a minimum, so a recording of float16
may be any of the evaluator's arithmetics. It must come close to one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfnet.artifact import sha256_of
from dfnet.errors import ArtifactError
from export.mil.arithmetic import Arithmetic
from export.mil.golden import Array, Golden, Numbers
from export.mil.package import Package
from export.mil.predict import Evaluator
from export.mil.recordings import Recording

TOLERANCE = {
    Numbers.FLOAT32: 1e-4,
    Numbers.FLOAT16: 5e-3,
    Numbers.CODES: 0.0,
}
"""Largest difference over the largest finite magnitude expected of an output. 1e-4 leaves room for
approximations of exp and erf; 5e-3 for float16 sums in an order of Core ML's own."""

PICTURE_LEVELS = 1
"""Largest difference of a picture's 8-bit levels."""


@dataclass(frozen=True)
class Agreement:
    """The arithmetic closest to what one compute unit computed.

    ``error`` is over the tolerance of the golden's numbers: up to 1 agrees. It is infinite where
    shapes, names, or infinite values differ.
    """

    golden: str
    unit: str
    arithmetic: Arithmetic
    error: float

    @property
    def agrees(self) -> bool:
        return self.error <= 1.0

    def __str__(self) -> str:
        verdict = "agrees" if self.agrees else "DIFFERS"
        return (
            f"{self.golden} on {self.unit} {verdict}: {self.error:.3g} of the tolerance, closest "
            f"to {self.arithmetic} arithmetic"
        )


def replay(recording: Recording, golden: Golden, package: Path) -> tuple[Agreement, ...]:
    """Evaluates ``package``, built from ``golden``, and compares; one agreement per compute unit
    that computed anything.

    Raises:
        ArtifactError: the recording is of another package, or holds no output.
    """
    sha256 = sha256_of(package)
    if recording.package_sha256 != sha256:
        raise ArtifactError(
            f"Core ML recording {recording.golden}: got outputs of the package "
            f"{recording.package_sha256[:12]}, needed those of {sha256[:12]}. Record again."
        )
    if not recording.outputs:
        refusals = "; ".join(f"{unit}: {why}" for unit, why in recording.refusals.items())
        raise ArtifactError(
            f"Core ML recording {recording.golden}: got no outputs ({refusals or 'no refusals'}), "
            "needed some. Change the golden until Core ML takes it."
        )
    evaluated = evaluate_all(golden, package, recording.inputs)
    return tuple(
        _closest(recording, unit, outputs, golden.numbers, evaluated)
        for unit, outputs in recording.outputs.items()
    )


def evaluate_all(
    golden: Golden, package: Path, inputs: Mapping[str, Array]
) -> dict[Arithmetic, dict[str, Array]]:
    """The evaluator's outputs in every arithmetic that a golden's numbers allow."""
    half = golden.numbers is Numbers.FLOAT16
    loaded, function = Package(package), golden.function
    results = {
        way: Evaluator(loaded, function=function, arithmetic=way).predict(inputs)
        for way in (tuple(Arithmetic) if half else (Arithmetic.DECLARED,))
    }
    return {way: {n: np.asarray(v) for n, v in r.items()} for way, r in results.items()}


def _closest(
    recording: Recording,
    unit: str,
    outputs: Mapping[str, Array],
    numbers: Numbers,
    evaluated: Mapping[Arithmetic, Mapping[str, Array]],
) -> Agreement:
    errors = {way: _error(outputs, expected, numbers) for way, expected in evaluated.items()}
    best = min(errors, key=lambda way: errors[way])
    return Agreement(recording.golden, unit, best, errors[best])


def _error(got: Mapping[str, Array], expected: Mapping[str, Array], numbers: Numbers) -> float:
    if got.keys() != expected.keys():
        return np.inf
    return max(_difference(got[name], expected[name], numbers) for name in expected)


def _difference(got: Array, expected: Array, numbers: Numbers) -> float:
    """Over the tolerance; infinite where arrays cannot be compared."""
    if got.shape != expected.shape:
        return np.inf
    got64, expected64 = got.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected64)
    if not np.array_equal(got64[~finite], expected64[~finite], equal_nan=True):
        return np.inf
    if not np.isfinite(got64[finite]).all():
        return np.inf
    worst = float(np.abs(got64[finite] - expected64[finite]).max(initial=0.0))
    if numbers is Numbers.PICTURE:
        return worst / PICTURE_LEVELS
    allowed = TOLERANCE[numbers] * float(np.abs(expected64[finite]).max(initial=0.0))
    if worst == 0.0:
        return 0.0
    return worst / allowed if allowed else np.inf
