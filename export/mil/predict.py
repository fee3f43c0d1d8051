"""Predictions from a saved package, as ``MLModel.predict`` makes them on macOS."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch

from dfnet.errors import ArtifactError, UnsupportedError
from export.mil.arithmetic import Arithmetic
from export.mil.evaluator import ProgramEvaluator
from export.mil.features import Feature, read_inputs, write_output, zero_state
from export.mil.package import Package


class Evaluator:
    """One function of a package, loaded.

    ``function`` names one of several, else the package's default runs. A stateful function keeps
    its state between calls; see ``reset``.

    Raises:
        ArtifactError: the package is damaged.
        UnsupportedError: no such function, or operations that are not known.
    """

    def __init__(
        self,
        package: Package,
        *,
        function: str | None = None,
        arithmetic: Arithmetic = Arithmetic.DECLARED,
    ) -> None:
        self._description = package.description(function)
        self.program = ProgramEvaluator(package.function(function), arithmetic=arithmetic)
        self.reset()

    @property
    def overflows(self) -> dict[str, float]:
        """Results that became infinite by rounding to float16, over all calls so far: name of the
        operation -> largest magnitude before rounding."""
        return self.program.overflows

    def reset(self) -> None:
        """Sets the state of a stateful function to zeros."""
        inputs = self.program.function.inputs
        states = {name: zero_state(t) for name, t in inputs.items() if t.is_state}
        self.program.state.clear()
        self.program.state.update(states)

    def predict(self, inputs: Mapping[str, Feature]) -> dict[str, Feature]:
        """The outputs by name: arrays of the declared types, or PIL pictures.

        ``inputs`` are arrays of the declared shapes (converted to the declared type), or for
        picture inputs PIL pictures or uint8 arrays, HWC in RGB order or HW.

        Raises:
            UnsupportedError: inputs do not fit the package, or an operation's parameters are not
                known.
            ArtifactError: a result is not what the file declares.
        """
        results = self.program.run(read_inputs(self._description.inputs, inputs))
        outputs: dict[str, Feature] = {}
        for name, feature in self._description.outputs.items():
            if name not in results:
                raise ArtifactError(
                    f"Core ML output {name}: got no result of that name, needed one. Export again."
                )
            outputs[name] = write_output(feature, results[name])
        return outputs

    def intermediates(
        self, inputs: Mapping[str, Feature], names: Collection[str]
    ) -> dict[str, torch.Tensor]:
        """The program's own tensors called ``names``, rounded as declared; raises as ``predict``.

        Raises:
            UnsupportedError: the program has no result of such a name.
        """
        results = self.program.run(read_inputs(self._description.inputs, inputs), keep=names)
        if unknown := set(names) - results.keys():
            raise UnsupportedError(
                f"Core ML program: got the names {', '.join(sorted(unknown))}, needed names of "
                "its results."
            )
        return {name: results[name] for name in names}


def evaluate(
    package: Path,
    inputs: Mapping[str, Feature],
    *,
    function: str | None = None,
    arithmetic: Arithmetic = Arithmetic.DECLARED,
) -> dict[str, Feature]:
    """Runs a saved Core ML package once, on any system; ``package`` is the ``.mlpackage`` folder.

    See ``Evaluator`` for the rest, ``Evaluator.predict`` for inputs, outputs and errors.

    Example:
        >>> evaluate(Path("model.mlpackage"), {"x": np.zeros((1, 3, 64, 64), np.float32)})
    """
    return Evaluator(Package(package), function=function, arithmetic=arithmetic).predict(inputs)
