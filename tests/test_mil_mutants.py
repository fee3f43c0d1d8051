"""The goldens notice wrong semantics: every mutant fails at least one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mil_mutants import MUTANTS, UNCHANGED

_ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def first_failures() -> dict[str, str | None]:
    """One process for all: a mutant must not leak into other tests."""
    script = _ROOT / "tests" / "mil_mutants.py"
    paths = os.pathsep.join([str(_ROOT), str(_ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_goldens_pass_unchanged(first_failures: dict[str, str | None]) -> None:
    assert first_failures[UNCHANGED] is None


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_noticed(mutant: str, first_failures: dict[str, str | None]) -> None:
    assert first_failures[mutant] is not None
