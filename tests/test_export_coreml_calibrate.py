"""coremltools' own activation calibration, with the reference evaluator behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dfnet.artifact import sha256_of
from dfnet.capture import Capture
from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.metrics import psnr_db
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from dfnet.signature import OUTPUT, Feed
from dfnet.tensors import feed_tensors
from quantize.fuse import fuse
from quantize.ptq import FloatProgram
from quantize.recipe import find_recipe

import lowering

pytest.importorskip("coremltools")

import coremltools.models.model as ct_model

from export.coreml import CoreML
from export.coreml_calibrate import main, quantize_package
from export.coreml_proxy import EvaluatorProxy, evaluator_as_core_ml
from export.mil import Evaluator, Package

pytestmark = pytest.mark.coreml


@pytest.fixture
def package(tiny_network: DFNet, feed: Feed, tmp_path: Path) -> Path:
    program = FloatProgram(find_recipe("fp16"), fuse(tiny_network, [feed]))
    artifact = lowering.lower(
        CoreML(), program, tmp_path, resolution=Resolution(64, 64), backend="coreml", platform="ios"
    )
    return artifact.path


def test_it_quantizes_activations_and_weights_off_the_mac(
    package: Path, tiny_network: DFNet, feed: Feed, tmp_path: Path
) -> None:
    output = tmp_path / "own.mlpackage"
    quantize_package(package, [feed], output)
    quantized = Package(output)
    types = [operation.type for operation in quantized.function().body.walk()]
    assert "quantize" in types
    assert any(type_.startswith("constexpr_") for type_ in types)
    with torch.no_grad():
        expected = tiny_network(*feed_tensors(feed)).numpy()
    got = np.asarray(Evaluator(quantized).predict(feed)[OUTPUT])
    assert 30 < psnr_db(expected, got) < 100


def test_coremltools_keeps_the_ranges_of_the_last_sample_alone(
    package: Path, captures: tuple[Capture, ...], tmp_path: Path
) -> None:
    """What ``export.coreml_default`` says in its files' notes."""
    first, last = (capture.feed(capture.targets[1]) for capture in captures[:2])
    files = {"both": [first, last], "last": [last], "first": [first]}
    for name, feeds in files.items():
        quantize_package(package, feeds, tmp_path / f"{name}.mlpackage")
    both, alone, other = (sha256_of(tmp_path / f"{name}.mlpackage") for name in files)
    assert both == alone
    assert both != other


def test_nothing_to_calibrate_with_is_an_error(package: Path, tmp_path: Path) -> None:
    output = tmp_path / "own.mlpackage"
    with pytest.raises(UnsupportedError, match="got no feeds"):
        quantize_package(package, [], output)
    assert not output.exists()


def test_a_missing_package_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "own.mlpackage"
    done = CliRunner().invoke(main, [str(tmp_path / "none.mlpackage"), "--output", str(output)])
    assert isinstance(done.exception, ArtifactError)
    assert list(tmp_path.iterdir()) == []


def test_core_ml_s_place_is_taken_only_meanwhile() -> None:
    before = ct_model._MLModelProxy
    with evaluator_as_core_ml():
        assert ct_model._MLModelProxy is EvaluatorProxy
    assert ct_model._MLModelProxy is before


def test_refusals_have_core_ml_s_type(package: Path, feed: Feed) -> None:
    proxy = EvaluatorProxy(str(package), "ALL")
    with pytest.raises(RuntimeError, match="got none, needed wide"):
        proxy.predict({})
