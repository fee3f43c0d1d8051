"""LiteRT's GPU accelerator in the native runner, on a GPU that is software.

It reaches a GPU through WebGPU and Vulkan; Debian's chromium brings SwiftShader, a Vulkan driver
that computes on the processor. Shaders are generated and run as on a GPU; a phone's driver is not
exercised. On request: `make test-full ARGS="-m gpu"`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

import ai_edge_litert

from android_harness.bundle import Bundle, build_bundle
from android_harness.job_result import read_result

from device_jobs import (
    a_feed,
    export_tiny,
    read_output,
    run_here,
    skipping_what_is_not_installed,
    write_job,
)

pytestmark = [pytest.mark.litert, pytest.mark.gpu, pytest.mark.slow]

ACCELERATOR = "libLiteRtWebGpuAccelerator.so"
DRIVER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")


@pytest.fixture(scope="module")
def plain() -> Bundle:
    with skipping_what_is_not_installed():
        return build_bundle("x86_64")
    raise AssertionError  # not reached: skipped or raised


@pytest.fixture(scope="module")
def with_gpu(plain: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle with the accelerator among its libraries, on the software driver."""
    if not DRIVER.exists():
        if os.environ.get("BROWSER_TOOLS") == "installed":
            raise AssertionError(f"{DRIVER} is missing, although chromium is installed")
        pytest.skip("needs SwiftShader: apt-get install chromium libvulkan1")
    folder = tmp_path_factory.mktemp("gpu") / "bundle"
    shutil.copytree(plain.folder, folder)
    library = Path(next(iter(ai_edge_litert.__path__))) / ACCELERATOR
    shutil.copyfile(library, folder / "lib" / ACCELERATOR)
    return Bundle(folder, plain.manifest)


def test_the_gpu_computes_what_the_processor_does(
    with_gpu: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VK_ICD_FILENAMES", str(DRIVER))
    folder = tmp_path / "artifact"
    folder.mkdir()
    artifact = export_tiny("litert", folder)
    outputs = []
    for accelerator in ("cpu", "gpu"):
        folder = tmp_path / accelerator
        job = write_job(folder, artifact, a_feed(), accelerator=accelerator)
        ended = run_here(with_gpu, "litert", folder)
        result = read_result(folder)
        assert ended.returncode == 0, result.error
        assert result.accelerator == {"cpu": "XNNPACK", "gpu": "GPU"}[accelerator]
        outputs.append(read_output(folder, job))
    reference, got = outputs
    assert np.isfinite(got).all()
    assert np.abs(got - reference).max() <= 1e-5
    assert np.ptp(got) > 0.1


def test_without_a_gpu_the_job_fails_instead_of_running_elsewhere(
    plain: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    artifact = export_tiny("litert", folder)
    write_job(tmp_path / "job", artifact, a_feed(), accelerator="gpu")
    ended = run_here(plain, "litert", tmp_path / "job")
    result = read_result(tmp_path / "job")
    assert ended.returncode == 1
    assert result.error is not None
    assert result.error.stage == "load"
    assert not list((tmp_path / "job").glob("*.out"))
