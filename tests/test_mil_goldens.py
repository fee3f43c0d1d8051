"""Every golden, evaluated from its file, against numpy loops or torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dfnet.artifact import sha256_of
from dfnet.errors import UnsupportedError
from export.mil import Evaluator, Package
from export.mil.golden import Inputs
from export.mil.golden_numbers import SCALE
from export.mil.golden_sampling import SAMPLING_MODES
from export.mil.goldens import GOLDENS, find_goldens

import golden_arithmetic
import golden_layouts
from golden_layouts import Outputs

pytest.importorskip("coremltools")

pytestmark = pytest.mark.coreml

Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``package(name)``: the golden's package, built once for this file."""
    folder = tmp_path_factory.mktemp("goldens")

    def build(name: str) -> Path:
        path = folder / f"{name}.mlpackage"
        if not path.exists():
            find_goldens([name])[0].write(path)
        return path

    return build


EXPECTED: dict[str, Callable[[Inputs], Outputs]] = {
    "space-to-depth": golden_layouts.space_to_depth,
    "depth-to-space": golden_layouts.depth_to_space,
    "pixel-unshuffle": golden_layouts.pixel_unshuffle,
    "pixel-shuffle": golden_layouts.pixel_shuffle,
    "concat-interleave": golden_layouts.concat_interleave,
    "pad-modes": golden_layouts.pad_modes,
    "picture-rounding": golden_layouts.picture_rounding,
    "function-default": golden_layouts.negated,
    "function-named": golden_layouts.doubled,
    "resize-linear": lambda inputs: golden_layouts.resize(inputs, nearest=False),
    "resize-nearest": lambda inputs: golden_layouts.resize(inputs, nearest=True),
    "upsample-bilinear": golden_layouts.upsample_bilinear,
    "upsample-nearest": golden_layouts.upsample_nearest,
    "resample": golden_layouts.resample,
    "resample-half": golden_layouts.resample_half,
    "avg-pool": golden_layouts.avg_pool,
    "conv-padding": golden_arithmetic.conv_padding,
    "conv-transpose-shape": golden_arithmetic.conv_transpose,
    "half-sums": golden_arithmetic.half_sums,
    "half-overflow": golden_arithmetic.half_overflow,
    "quantize-ties": golden_arithmetic.quantize_ties,
    "quantize-division": golden_arithmetic.quantize_division,
    "gelu": golden_arithmetic.gelu,
    "norms": golden_arithmetic.norms,
    "weights-affine": golden_arithmetic.weights_affine,
    "weights-blockwise": golden_arithmetic.weights_blockwise,
    "weights-table": golden_arithmetic.weights_table,
    "weights-grouped-table": golden_arithmetic.weights_grouped_table,
    "weights-sparse": golden_arithmetic.weights_sparse,
}
ROUNDED = {
    "resize-linear": 2e-6,
    "upsample-bilinear": 2e-6,
    "resample": 1e-5,
    "resample-half": 1e-3,
    "avg-pool": 1e-6,
    "gelu": 1e-6,
    "norms": 1e-5,
}
"""Largest difference of what is rounded on the way; all others must be equal."""


def test_every_golden_has_an_expectation_and_a_name_of_its_own() -> None:
    assert [golden.name for golden in GOLDENS] == list(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_file_computes_what_is_expected(name: str, package: Callable[[str], Path]) -> None:
    (golden,) = find_goldens([name])
    inputs = golden.inputs()
    outputs = Evaluator(Package(package(name)), function=golden.function).predict(inputs)
    expected = EXPECTED[name](inputs)
    assert outputs.keys() == expected.keys()
    for output, wanted in expected.items():
        got = np.asarray(outputs[output])
        assert got.shape == wanted.shape
        np.testing.assert_allclose(
            got, wanted, rtol=0, atol=ROUNDED.get(name, 0), err_msg=f"{name} {output}"
        )


def test_goldens_tell_the_alternatives_apart() -> None:
    """What a golden pins must matter to its outputs."""
    for one, other in (
        (golden_layouts.space_to_depth, golden_layouts.pixel_unshuffle),
        (golden_layouts.depth_to_space, golden_layouts.pixel_shuffle),
    ):
        inputs = find_goldens([one.__name__.replace("_", "-")])[0].inputs()
        assert (one(inputs)["y"] != other(inputs)["y"]).any()
    x = find_goldens(["quantize-division"])[0].inputs()["x"]
    assert (np.round(x / SCALE) != np.round(x * (np.float32(1) / SCALE))).any()
    half = find_goldens(["resample-half"])[0].inputs()
    exact, rounded = (
        golden_layouts.resample_half(half, number)["y"] for number in (np.float64, np.float16)
    )
    assert np.abs(exact - rounded).max() > 0.02
    image = find_goldens(["resize-linear"])[0].inputs()
    for nearest in (False, True):
        results = golden_layouts.resize(image, nearest=nearest)
        modes = {
            tuple(r.tobytes() for name, r in results.items() if name.startswith(f"{mode.lower()}_"))
            for mode in SAMPLING_MODES
        }
        assert len(modes) == len(SAMPLING_MODES)


def test_a_package_does_not_depend_on_those_built_before(
    package: Callable[[str], Path], tmp_path: Path
) -> None:
    first = sha256_of(package("weights-affine"))
    for name in ("norms", "weights-affine"):
        find_goldens([name])[0].write(tmp_path / f"{name}.mlpackage")
    assert sha256_of(tmp_path / "weights-affine.mlpackage") == first


def test_an_unknown_golden_lists_those_there_are() -> None:
    with pytest.raises(UnsupportedError, match="got nonsense, needed one of space-to-depth"):
        find_goldens(["nonsense"])
