"""What every runtime offers: quantize, lower, open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from dfnet.artifact import Artifact
from dfnet.captureset import CaptureSet
from dfnet.errors import UnsupportedError
from dfnet.manifest import Delegation, EntryPoint, TensorSpec
from dfnet.profiles import Resolution
from dfnet.runner import Runner
from dfnet.signature import Feed
from export.sdk_program import sdk_program
from export.variants import RUNTIMES, Variant
from quantize.program import Program
from quantize.ptq import quantize
from quantize.recipe import Recipe

Opener = Callable[[], Runner]
"""Loads a file for inference; raises as ``Runtime.open`` does."""


@dataclass(frozen=True)
class Lowered:
    """The result of lowering: a file in the folder given, and what is known about it.

    ``facts`` are build facts of this runtime worth keeping in the manifest (operator histogram,
    scales of named tensors). ``notes`` are sentences for the user. ``entry_points`` are a bundle's;
    the other fields are then those of the first.
    """

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    delegation: Delegation | None
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    entry_points: tuple[EntryPoint, ...] = ()


class Runtime(ABC):
    """A phone runtime. One file in export/, the only importer of its SDK.

    A subclass sets ``key``; what it can produce stands in its row of ``export.variants.RUNTIMES``.
    """

    key: ClassVar[str]

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The files this runtime can produce."""
        return RUNTIMES[self.key].variants

    @property
    def distributions(self) -> tuple[str, ...]:
        """PyPI distributions whose versions identify a build."""
        return RUNTIMES[self.key].distributions

    def quantizes_itself(self, recipe: Recipe) -> bool:
        """Whether ``quantize`` gives a program of this runtime's own; any other is made once for
        all runtimes."""
        return recipe.by_sdk

    def quantize(self, network: nn.Module, recipe: Recipe, calibration: CaptureSet) -> Program:
        """The shared quantized graph; for ``by_sdk`` recipes a ``SdkProgram``, which ``lower``
        has the SDK quantize. Override only where a runtime cannot take the shared graph, and
        ``quantizes_itself`` with it.
        """
        if recipe.by_sdk:
            return sdk_program(network, recipe, calibration)
        return quantize(network, recipe, calibration)

    @abstractmethod
    def lower(
        self, program: Program, *, backend: str, resolution: Resolution, folder: Path
    ) -> Lowered:
        """Writes ``program`` at one fixed resolution into ``folder``.

        Raises:
            UnsupportedError: this runtime or backend cannot represent the recipe or the network.
        """

    def merge(self, files: Mapping[str, Path], target: Path) -> None:
        """Writes to ``target`` one file with an entry point of each name in ``files``, which
        computes what that file does, constants stored once. ``files`` are what ``lower`` wrote of
        one program at several resolutions.

        Raises:
            UnsupportedError: a file of this runtime holds one resolution.
        """
        raise UnsupportedError(
            f"Bundle of {self.key}: got {len(files)} resolutions, needed one, because its files "
            "hold no more. Export without --bundle."
        )

    def constant_bytes(self, path: Path) -> int:
        """Bytes of the constants, weights above all, that are stored in a file that can be merged.

        Raises:
            UnsupportedError: as ``merge``.
        """
        raise UnsupportedError(f"Bundle of {self.key}: not supported. Export without --bundle.")

    @abstractmethod
    def cannot_run(self, artifact: Artifact) -> str | None:
        """Why the runtime itself cannot run ``artifact`` here (``needs macOS``); None if it can."""

    def executions(self, artifact: Artifact, *, threads: int) -> tuple[Opener, ...]:
        """Every way this machine can execute ``artifact`` for parity and quality.

        All of them are judged and the worst one counts. It is the runtime itself where it runs; a
        runtime whose files a reference evaluator or several accelerators can execute says so here.
        Nothing when there is none.

        Raises:
            ArtifactError: the file cannot be read.
            UnsupportedError: it holds what nothing on this machine can execute.
        """
        return () if self.cannot_run(artifact) else (partial(self.open, artifact, threads=threads),)

    def profile(self, artifact: Artifact, feed: Feed, *, threads: int) -> dict[str, float] | None:
        """Milliseconds of one inference by kind of operator, as the runtime itself counts them, the
        largest first; None where it does not say."""
        return None

    @abstractmethod
    def open(self, artifact: Artifact, *, threads: int) -> Runner:
        """Loads ``artifact`` for inference on this machine with ``threads`` CPU threads.

        Raises:
            UnsupportedError: ``cannot_run`` gives a reason.
            ArtifactError: the file cannot be loaded.
        """
