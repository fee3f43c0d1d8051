"""Core ML's protobuf messages, without the rest of coremltools.

Importing coremltools takes seconds and loads converters; reading a package needs only the
generated messages that its wheel holds on every system.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

from dfnet.errors import MissingDependencyError

_PARENT = "coremltools"


def _load() -> tuple[Any, Any, Any]:
    """``FeatureTypes_pb2``, ``MIL_pb2`` and ``Model_pb2``.

    Python runs a package's ``__init__`` before its submodules. A stand-in parent with the real
    folder as its path avoids that, and is gone before anyone imports coremltools itself.
    """
    if _PARENT in sys.modules:
        return _messages()
    found = importlib.util.find_spec(_PARENT)
    if found is None or found.submodule_search_locations is None:
        raise MissingDependencyError(
            "Core ML packages: got no coremltools, needed it to read them. Run `make setup`."
        )
    stand_in = ModuleType(_PARENT)
    stand_in.__path__ = list(found.submodule_search_locations)
    sys.modules[_PARENT] = stand_in
    try:
        return _messages()
    finally:
        del sys.modules[_PARENT]


def _messages() -> tuple[Any, Any, Any]:
    from coremltools.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2

    return FeatureTypes_pb2, MIL_pb2, Model_pb2


FeatureTypes_pb2, MIL_pb2, Model_pb2 = _load()
