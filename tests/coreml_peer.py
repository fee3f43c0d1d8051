"""pytest plugin that runs Apple's own tests of Core ML operations against our evaluator.

They are inside the coremltools wheel and call ``MLModel.predict`` on macOS only. Loaded with
``-p coreml_peer`` in a process of its own, this plugin lets coremltools believe that it is on
macOS and serves every prediction from ``export.mil``. Apple's float16 tolerance (0.5 absolute)
would pass nearly anything, so a tighter one of ours is added.

Set in the environment: ``COREML_PEER_REPORT`` (JSON lines are appended there, one per case; cases
it has are not run again),
``COREML_PEER_CASES`` (a file of node ids to run; absent: all), ``COREML_PEER_SHARD`` (``1/2``),
``COREML_PEER_SECONDS`` (start no case later than this), ``COREML_PEER_MUTANT`` (a key of
``mil_mutants.MUTANTS``).
"""

from __future__ import annotations

import functools
import gc
import json
import os
import random
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from dfnet.errors import UnsupportedError
from export.coreml_proxy import EvaluatorProxy
from export.mil.registry import OPERATIONS

from mil_mutants import MUTANTS, mutant

EXPLAINED = Path(__file__).with_name("coreml_peer_explained.json")

_CASES_TO_SET_APART = 100

HALF_TOLERANCE = 5e-3
"""Largest error of a float16 program over the largest magnitude expected: measured 1.5e-3."""

_APPLES_HALF_TOLERANCE = 0.5
_OUT_OF_SCOPE = (
    "recurrent", "lstm", "gru", "rnn", "random", "stft", "fft", "nms", "non_maximum", "linalg",
    "complex", "torchvision", "Lstm", "LSTM", "GRU", "RNN", "Random", "STFT", "FFT", "Rand",
    "Complex", "Bernoulli", "Multinomial", "Stft",
)  # fmt: skip
"""Parts of node ids: recurrent, random, spectral and detection operations, which no restoration
network lowers to."""


class PeerMismatchError(Exception):
    """A float16 result beyond our tolerance; Apple's helper would catch an AssertionError."""


class _Watch:
    """What happened in the case that runs: counted here because pytest's report cannot."""

    cases = 0
    predictions = 0
    operations: set[str] = set()  # noqa: RUF012 - reset for each case
    half_expected = False
    error: float | None = None


class _State:
    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] | None = None


class Proxy(EvaluatorProxy):
    """Counts predictions, and keeps the state of stateful models apart for each ``MLState``."""

    def predict(self, data: Any, state: object = None) -> Any:
        if isinstance(data, list):
            return [self.predict(one, state) for one in data]
        _Watch.predictions += 1
        program = self.evaluator.program
        _Watch.operations |= {o.type for o in program.function.body.walk()}
        if isinstance(state, _State):
            state.tensors = state.tensors or dict(program.state)
            program.state.update(state.tensors)
        return super().predict(data)

    def newState(self) -> _State:  # noqa: N802 - coremltools' name
        self.evaluator.reset()
        return _State()


class _Absent(ModuleType):
    """A package that is not installed: everything can be imported from it."""

    def __getattr__(self, name: str) -> ModuleType:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(name)


def _pretend_macos() -> None:
    for name in ("torchvision", "torchvision.ops", "torchvision.models", "peft"):
        # Imported by a few test modules, needed by none of the cases that run.
        sys.modules.setdefault(name, _Absent(name))
    import coremltools._deps
    import coremltools.converters.mil.testing_utils
    import coremltools.models.model
    import coremltools.models.utils

    coremltools._deps._IS_MACOS = True
    coremltools.converters.mil.testing_utils._IS_MACOS = True
    for module in (coremltools.models.model, coremltools.models.utils):
        module._is_macos = lambda: True
        module._macos_version = lambda: (15, 0)
    coremltools.models.model._MLModelProxy = Proxy


def _assert_close(
    actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0, *args: Any, **kwargs: Any
) -> None:
    got, expected = np.asarray(actual), np.asarray(desired)
    if expected.dtype == np.float16 and got.dtype == np.float32 and atol < _APPLES_HALF_TOLERANCE:
        # The expectation itself was rounded to float16 by the test: half a step is its own error.
        _Watch.half_expected = True
        step = np.spacing(np.abs(expected)).astype(np.float64) / 2
        actual = np.where(np.abs(got.astype(np.float64) - expected) <= step, expected, got)
    try:
        assert_allclose(actual, desired, rtol, atol, *args, **kwargs)
    except AssertionError:
        _Watch.error = _relative_error(got, expected)
        raise
    if atol >= _APPLES_HALF_TOLERANCE:
        error = _relative_error(got, expected)
        if error is not None and error > HALF_TOLERANCE:
            raise PeerMismatchError(f"float16 error {error:.3g}, limit {HALF_TOLERANCE}")


def _relative_error(got: Any, expected: Any) -> float | None:
    """Largest difference over the largest magnitude expected; None if shapes or kinds differ."""
    if got.shape != expected.shape or got.dtype.kind not in "fiub" or not got.size:
        return None
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected) & np.isfinite(got)
    if not finite.any():
        return None
    magnitude = max(float(np.abs(expected[finite]).max()), HALF_TOLERANCE)
    return float(np.abs(got - expected)[finite].max()) / magnitude


def _mutate() -> None:
    """Breaks one operation, for the tests' own negative control."""
    if name := os.environ.get("COREML_PEER_MUTANT"):
        operation, mutation = MUTANTS[name]
        OPERATIONS[operation] = mutant(OPERATIONS[operation], mutation)


_pretend_macos()
_mutate()
np.testing.assert_allclose = _assert_close
torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    import coremltools.converters.mil.frontend.torch.test.testing_utils as torch_testing

    torch_testing._IS_MACOS = True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if chosen := os.environ.get("COREML_PEER_CASES"):
        wanted = set(Path(chosen).read_text().splitlines())
        items[:] = [item for item in items if item.nodeid in wanted]
    items[:] = [i for i in items if not any(part in i.nodeid for part in _OUT_OF_SCOPE)]
    for item in items:
        if item.nodeid in explained():
            item.add_marker(pytest.mark.xfail(reason=explained()[item.nodeid], strict=True))
    done = _done()
    items[:] = [item for item in items if item.nodeid not in done]
    shard, shards = map(int, os.environ.get("COREML_PEER_SHARD", "1/1").split("/"))
    # A fixed random order: whatever prefix runs is a fair sample.
    items.sort(key=lambda item: zlib.crc32(item.nodeid.encode()))
    items[:] = [i for i in items if zlib.crc32(i.nodeid.encode(), 1) % shards == shard - 1]


@functools.cache
def explained() -> dict[str, str]:
    """Case -> why it must fail, from ``coreml_peer_explained.json``."""
    classes = json.loads(EXPLAINED.read_text())
    return {case: entry["reason"] for entry in classes for case in entry["cases"]}


def pytest_collection_finish(session: pytest.Session) -> None:
    _set_apart()


def _set_apart() -> None:
    """Twenty thousand collected cases, and what coremltools never lets go of, walked by every
    garbage collection, cost five times the tests themselves."""
    gc.collect()
    gc.freeze()


def _done() -> set[str]:
    """Cases that the report has already, so that a run can be taken up again."""
    report = Path(os.environ.get("COREML_PEER_REPORT", ""))
    if not report.is_file():
        return set()
    return {json.loads(line)["case"] for line in report.read_text().splitlines()}


_STARTED = time.monotonic()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    if time.monotonic() - _STARTED > float(os.environ.get("COREML_PEER_SECONDS", "inf")):
        pytest.exit("out of time", 0)
    _Watch.predictions, _Watch.operations = 0, set()
    _Watch.half_expected, _Watch.error = False, None
    _seed(zlib.crc32(item.nodeid.encode()))
    outcome, reason = "passed", ""
    try:
        return (yield)
    except BaseException as error:
        outcome = _outcome(error)
        reason = f"{type(error).__name__}: {error}"[:400]
        raise
    finally:
        _write(item.nodeid, outcome, reason)
        _Watch.cases += 1
        if _Watch.cases % _CASES_TO_SET_APART == 0:
            _set_apart()


def _seed(seed: int) -> None:
    """Apple's inputs are random; a case must not pass on one day and fail on the next."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _outcome(error: BaseException) -> str:
    if isinstance(error, pytest.skip.Exception):
        return "skipped"
    if isinstance(error, pytest.xfail.Exception):
        return "xfailed"
    return "unsupported" if isinstance(error.__cause__, UnsupportedError) else "failed"


def _write(case: str, outcome: str, reason: str) -> None:
    report = os.environ.get("COREML_PEER_REPORT")
    if not report:
        return
    line = {
        "case": case,
        "outcome": outcome,
        "predictions": _Watch.predictions,
        "operations": sorted(_Watch.operations),
        "half_expected": _Watch.half_expected,
        "error": _Watch.error,
        "reason": reason,
    }
    with Path(report).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
