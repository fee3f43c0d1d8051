"""Running a Core ML package in the reference evaluator, as a runner like any other.

It is a stand-in for parity and quality where Core ML itself does not exist. It has no latency, and
its device is never a phone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Self

from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.manifest import Manifest
from dfnet.runner import Device, Output, Timings
from dfnet.signature import INPUTS, OUTPUT, Feed
from export.coreml_pictures import features_of, picture_of
from export.feeds import check_resolution
from export.mil import Arithmetic, Evaluator, Package
from export.mil.evaluator import require_known
from export.runtime import Opener


class EvaluatorRunner:
    """A package in the reference evaluator, with one way to execute its float16.

    ``inputs`` maps the names of the package's inputs to those of ``dfnet.signature.INPUTS``;
    ``entry`` is the function to run, None the only one. It must have one output, the picture.

    Raises:
        ArtifactError: the package cannot be read.
        UnsupportedError: it has operations the evaluator does not know.
    """

    def __init__(
        self,
        package: Package,
        manifest: Manifest,
        arithmetic: Arithmetic,
        *,
        inputs: Mapping[str, str] | None = None,
        entry: str | None = None,
    ) -> None:
        self._manifest = manifest
        self._inputs = inputs or {spec.name: spec.name for spec in INPUTS}
        self._evaluator = Evaluator(package, arithmetic=arithmetic, function=entry)
        self.device = Device("evaluator", f"reference evaluator, {arithmetic} arithmetic")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self._evaluator

    def infer(self, feed: Feed) -> Output:
        """See ``Runner.infer``.

        Raises:
            ArtifactError: a result overflowed float16, or is not what the package declares.
        """
        check_resolution(feed, self._manifest)
        given = features_of(feed, self._manifest)
        outputs = self._evaluator.predict({own: given[name] for own, name in self._inputs.items()})
        self._refuse_overflows()
        if len(outputs) != 1:
            raise ArtifactError(
                f"{self._manifest.artifact_file}: got the outputs {', '.join(outputs)}, needed one."
            )
        (picture,) = outputs.values()
        return {OUTPUT: picture_of(picture, self._manifest)}

    def time(self, feed: Feed, *, warmup: int, runs: int) -> Timings:
        """Refused: an evaluator's speed says nothing about Core ML's.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            f"Latency of {self._manifest.artifact_file}: got the reference evaluator, needed "
            "Core ML. Measure on macOS or an iPhone; see docs/ios.md."
        )

    def _refuse_overflows(self) -> None:
        if not self._evaluator.overflows:
            return
        name, magnitude = next(iter(self._evaluator.overflows.items()))
        count = len(self._evaluator.overflows)
        raise ArtifactError(
            f"{self._manifest.artifact_file}: {count} results overflow float16, the first is "
            f"{name} with {magnitude:.3g}, needed at most 65504. Keep that operation float32."
        )


def evaluator_executions(
    package: Package,
    manifest: Manifest,
    *,
    inputs: Mapping[str, str] | None = None,
    entry: str | None = None,
) -> tuple[Opener, ...]:
    """Openers for every legal execution of a package that can differ: one for a program without
    float16, else one per ``Arithmetic``.

    Raises:
        ArtifactError: the package cannot be read.
        UnsupportedError: it has operations the evaluator does not know; names them.
    """
    function = package.function(entry)
    require_known(function)
    declared = (declared for o in function.body.walk() for _, declared in o.outputs)
    half = any(one.dtype.name == "fp16" for one in declared)
    ways = tuple(Arithmetic) if half else (Arithmetic.DECLARED,)
    return tuple(
        partial(EvaluatorRunner, package, manifest, way, inputs=inputs, entry=entry) for way in ways
    )
