"""Measures the rows of ``export.lint.rules``: every operator, exported and run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from phone_ops import OPERATIONS, RULES_OF, Between

from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.errors import ArtifactError
from dfnet.metrics import psnr_db
from dfnet.profiles import Resolution
from dfnet.signature import Feed
from export import load_runtime
from export.lint.rules import RULES, Consequence, FileKind
from quantize.fuse import fuse
from quantize.program import Program
from quantize.ptq import quantize
from quantize.recipe import find_recipe

from lowering import infer, lower, simulate

SIZE = Resolution(64, 64)
WRONG_DB = {"fp32": 60.0, "int8-naive": 40.0}
"""Below this a file does not compute its program; rounding costs far less."""
_FREE = {"alloc", "dim_order_ops__to_dim_order_copy_default"}
"""Memory, and a number's conversion: no operator of the network."""
_ONE_SIZE = {"grid_sample", "matmul_attention"}
"""Hold constants of one size, so they cannot be calibrated at another."""

QUICK = {("litert", "fp32", "const_minus"), ("executorch", "fp32", "softmax_rows")}
"""Wrong results are measured in every run; the rest with --full."""

CASES = [
    pytest.param(
        runtime,
        recipe,
        name,
        marks=[
            getattr(pytest.mark, runtime),
            *([] if (runtime, recipe, name) in QUICK else [pytest.mark.slow]),
        ],
    )
    for runtime in ("litert", "executorch")
    for recipe in ("fp32", "int8-naive")
    for name in OPERATIONS
    if recipe == "fp32" or name not in _ONE_SIZE
]


@pytest.mark.parametrize(("runtime", "recipe", "name"), CASES)
def test_a_file_does_what_the_table_says(
    runtime: str,
    recipe: str,
    name: str,
    feed: Feed,
    make_capture_set: Callable[..., CaptureSet],
    tmp_path: Path,
) -> None:
    network = fuse(Between(OPERATIONS[name]()).eval(), [feed])
    program = quantize(network, find_recipe(recipe), make_capture_set(Split.CALIBRATION, 16))
    assert observed(runtime, program, feed, tmp_path) == expected(runtime, recipe, name)


def expected(runtime: str, recipe: str, name: str) -> set[Consequence]:
    """The problems the table promises; a refused file shows no others."""
    kind = FileKind(runtime, "xnnpack", recipe)
    effects = {
        effect.consequence
        for rule in RULES
        if rule.name in RULES_OF[name]
        for effect in rule.effects
        if effect.concerns(kind)
    }
    if Consequence.REFUSED in effects:
        return {Consequence.REFUSED}
    return {consequence for consequence in effects if consequence.is_problem}


def observed(runtime: str, program: Program, feed: Feed, folder: Path) -> set[Consequence]:
    """What exporting and running the program shows."""
    try:
        artifact = lower(load_runtime(runtime), program, folder, resolution=SIZE)
    except Exception:  # whatever an SDK raises
        return {Consequence.REFUSED}
    assert artifact.manifest.delegation is not None
    portable = artifact.manifest.delegation.placement.get("portable", {})
    found = {Consequence.OUTSIDE} if portable.keys() - _FREE else set()
    try:
        output = infer(load_runtime(runtime), artifact, feed)
    except (ArtifactError, RuntimeError):
        return {*found, Consequence.CRASHES}
    if psnr_db(simulate(program, feed), output) < WRONG_DB[program.recipe.name]:
        found.add(Consequence.WRONG)
    return found
