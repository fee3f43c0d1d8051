"""What ExecuTorch hands a network to: the table of its backends, and what each must offer."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from executorch.exir import EdgeProgramManager
from executorch.exir.backend.partitioner import Partitioner
from executorch.exir.lowered_backend_module import LoweredBackendModule

from dfnet.errors import MissingDependencyError, UnsupportedError
from dfnet.profiles import Precision


class Backend(ABC):
    """A backend inside ExecuTorch. One file each, the only importer of its SDK."""

    key: ClassVar[str]
    precisions: ClassVar[tuple[Precision, ...]]
    notes: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def partitioner(self, precision: Precision, *, by_sdk: bool) -> Partitioner:
        """What chooses and compiles the parts of a graph this backend takes; ``by_sdk`` the way
        its SDK does, for comparison."""

    def finish(self, program: EdgeProgramManager) -> dict[str, Any]:
        """Last changes to the compiled parts, before the file is written; returns build facts.

        Raises:
            UnsupportedError: a compiled part is not what it must be.
        """
        return {}


_BACKENDS = {
    "xnnpack": "export.executorch_xnnpack:XNNPACK",
    "coreml": "export.executorch_coreml:CoreML",
}


def load_backend(key: str) -> Backend:
    """Imports one backend's compiler.

    Raises:
        UnsupportedError: unknown key; lists the backends.
        MissingDependencyError: what compiles for it is not installed.
    """
    if key not in _BACKENDS:
        raise UnsupportedError(
            f"ExecuTorch backend {key!r} is unknown. Choose one of {', '.join(_BACKENDS)}."
        )
    module_name, _, class_name = _BACKENDS[key].partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise MissingDependencyError(
            f"ExecuTorch backend {key}: not available here ({error}). Run `make setup`; a backend "
            "without wheels for this system stays unavailable."
        ) from error
    backend: Backend = getattr(module, class_name)()
    return backend


def lowered_modules(program: EdgeProgramManager) -> tuple[LoweredBackendModule, ...]:
    """The parts of the graph that a backend took, in graph order."""
    graph_module = program.exported_program().graph_module
    return tuple(
        child
        for _, child in graph_module.named_children()
        if isinstance(child, LoweredBackendModule)
    )
