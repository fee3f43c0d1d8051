"""The reference evaluator in the place of coremltools' binding to Core ML.

coremltools predicts through one class, ``_MLModelProxy`` of its macOS-only binary. Where that does
not exist, this class takes its place, so that coremltools' tools that need predictions work: its
calibration of activations (``export.coreml_calibrate``) and its tests (``tests/coreml_peer.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import coremltools.models.model as ct_model

from dfnet.errors import DFNetError
from export.mil import Evaluator, Package
from export.mil.features import Feature


class EvaluatorProxy:
    """What ``MLModel`` expects of ``_MLModelProxy`` (coremltools 9.0, ``models/model.py``), for
    predictions without state."""

    @staticmethod
    def maximum_supported_specification_version() -> int:
        """The newest format coremltools 9.0 writes: iOS 18."""
        return 9

    def __init__(
        self,
        filename: str,
        compute_units: str,
        function_name: str = "",
        optimization_hints: object = None,
        asset: object = None,
    ) -> None:
        self._path, self._function = Path(filename), function_name or None
        self._evaluator: Evaluator | None = None

    @property
    def evaluator(self) -> Evaluator:
        """Loaded at the first prediction: coremltools loads many models that it never runs."""
        if self._evaluator is None:
            self._evaluator = Evaluator(Package(self._path), function=self._function)
        return self._evaluator

    def predict(
        self, data: Mapping[str, Feature] | Sequence[Mapping[str, Feature]], state: object = None
    ) -> Any:
        """One dictionary of outputs, or a list of them for a list of inputs.

        Raises:
            RuntimeError: the evaluator refuses; the same type as Core ML's refusals have.
        """
        try:
            if isinstance(data, Mapping):
                return self.evaluator.predict(data)
            return [self.evaluator.predict(one) for one in data]
        except DFNetError as error:
            raise RuntimeError(str(error)) from error


@contextmanager
def evaluator_as_core_ml() -> Iterator[None]:
    """Lets ``MLModel.predict`` run in the evaluator. Models loaded meanwhile stay evaluated."""
    original = ct_model._MLModelProxy
    ct_model._MLModelProxy = EvaluatorProxy
    try:
        yield
    finally:
        ct_model._MLModelProxy = original
