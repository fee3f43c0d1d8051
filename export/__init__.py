"""Lowering to phone runtimes: the table of runtimes and how to load one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dfnet.errors import MissingDependencyError, UnsupportedError
from export.variants import RUNTIMES

if TYPE_CHECKING:
    from export.runtime import Runtime

__all__ = ["RUNTIMES", "load_runtime"]


def load_runtime(key: str) -> Runtime:
    """Imports one runtime's SDK and returns the runtime.

    Raises:
        UnsupportedError: unknown key; lists the runtimes.
        MissingDependencyError: its SDK is not installed or not available for this system.
    """
    if key not in RUNTIMES:
        raise UnsupportedError(f"Runtime {key!r} is unknown. Choose one of {', '.join(RUNTIMES)}.")
    module_name, _, class_name = RUNTIMES[key].location.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise MissingDependencyError(
            f"Runtime {key}: not available here ({error}). Run `make setup`; a runtime without "
            "wheels for this system stays unavailable."
        ) from error
    runtime: Runtime = getattr(module, class_name)()
    return runtime
