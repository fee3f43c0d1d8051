"""Recordings from Macs: the real ones replayed, and the replay itself with a made-up one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfnet.artifact import staged_folder
from dfnet.errors import ArtifactError, UnsupportedError
from export.mil.golden import Numbers
from export.mil.goldens import find_goldens
from export.mil.recordings import (
    INDEX_NAME,
    Mac,
    Recording,
    find_recordings,
    read_recordings,
    write_recordings,
)
from export.mil.replay import Agreement, replay

pytest.importorskip("coremltools")

from export.coreml_runner import ComputeUnit
from export.mil.recorder import folder_name, record_golden

from fake_coreml import FakeCoreML, pretend_core_ml

pytestmark = pytest.mark.coreml

ROOT = Path(__file__).resolve().parent / "coreml_recordings"
REAL = find_recordings(ROOT)
MAC = Mac(macos="15.1", chip="Apple M2", model="Mac14,2", coremltools="9.0")
_NONE = pytest.mark.skip("not run (needs recordings from macOS): see docs/coreml-recordings.md")
SAMPLE = (
    "picture-rounding",
    "function-default",
    "function-named",
    "half-overflow",
    "quantize-ties",
    "gelu",
)
"""One golden of each kind of numbers, and one with several functions."""


@pytest.mark.parametrize("folder", REAL or [pytest.param(ROOT, marks=_NONE)], ids=lambda p: p.name)
def test_the_evaluator_agrees_with_a_mac(folder: Path, tmp_path: Path) -> None:
    """Tolerances: export.mil.replay."""
    found = read_recordings(folder)
    agreements = [a for recording in found.recordings for a in _replay(recording, tmp_path)]
    print(f"{found.mac}\n", *agreements, sep="\n")
    assert agreements
    assert [str(a) for a in agreements if not a.agrees] == []


def _replay(recording: Recording, scratch: Path) -> tuple[Agreement, ...]:
    (golden,) = find_goldens([recording.golden])
    package = scratch / f"{golden.name}.mlpackage"
    if not package.exists():
        golden.write(package)
    return replay(recording, golden, package)


@pytest.fixture
def core_ml(monkeypatch: pytest.MonkeyPatch) -> type[FakeCoreML]:
    return pretend_core_ml(monkeypatch)


@pytest.fixture
def recorded(core_ml: type[FakeCoreML], tmp_path: Path) -> Callable[[str], Recording]:
    """``recorded(name)``: as on a Mac whose Core ML is the evaluator."""

    def make(name: str) -> Recording:
        scratch = tmp_path / f"record-{name}"
        scratch.mkdir()
        return record_golden(find_goldens([name])[0], scratch)

    return make


@pytest.mark.parametrize("name", SAMPLE)
def test_a_recording_survives_the_disk_and_agrees(
    name: str, recorded: Callable[[str], Recording], tmp_path: Path
) -> None:
    with staged_folder(tmp_path / "set") as folder:
        write_recordings(folder, MAC, [recorded(name)])
    found = read_recordings(tmp_path / "set")
    assert found.mac == MAC
    agreements = _replay(found.recordings[0], tmp_path)
    assert [a.unit for a in agreements] == list(ComputeUnit)
    assert all(a.agrees for a in agreements)
    assert all(a.error == 0 for a in agreements)


def test_the_sample_has_every_kind_of_numbers() -> None:
    assert {golden.numbers for golden in find_goldens(SAMPLE)} == set(Numbers)


@pytest.mark.parametrize(
    ("name", "output", "change"),
    [
        ("gelu", "exact", 1e-2),
        ("half-overflow", "small", 1.0),
        ("quantize-ties", "signed", 1.0),
        ("picture-rounding", "rgb", 2.0),
    ],
)
def test_an_altered_recording_differs(
    name: str, output: str, change: float, recorded: Callable[[str], Recording], tmp_path: Path
) -> None:
    recording = recorded(name)
    array = recording.outputs["cpu"][output]
    index = np.unravel_index(array.size // 2, array.shape)
    array[index] = array[index] + change if array[index] < 100 else array[index] - change
    (altered,) = [a for a in _replay(recording, tmp_path) if not a.agrees]
    assert altered.unit == "cpu"
    assert "DIFFERS" in str(altered)


def test_one_level_of_a_picture_is_within_tolerance(
    recorded: Callable[[str], Recording], tmp_path: Path
) -> None:
    recording = recorded("picture-rounding")
    picture = recording.outputs["cpu"]["rgb"]
    picture[...] = np.where(picture > 0, picture - 1, picture)
    assert all(a.agrees for a in _replay(recording, tmp_path))


@pytest.mark.parametrize("damage", ["missing", "shape", "infinite", "finite"])
def test_outputs_that_cannot_be_compared_differ(
    damage: str, recorded: Callable[[str], Recording], tmp_path: Path
) -> None:
    recording = recorded("half-overflow")
    outputs = recording.outputs["all"]
    if damage == "missing":
        del outputs["small"]
    elif damage == "shape":
        outputs["small"] = outputs["small"][..., :-1]
    elif damage == "infinite":
        outputs["small"][0, 0, 2, 0] = np.inf
    else:
        outputs["small"][np.isinf(outputs["small"])] = 65504.0
    (altered,) = [a for a in _replay(recording, tmp_path) if not a.agrees]
    assert altered.unit == "all"
    assert altered.error == np.inf


def test_float32_arithmetic_of_a_float16_program_is_legal(
    recorded: Callable[[str], Recording], tmp_path: Path
) -> None:
    recording = recorded("half-overflow")
    square = recording.inputs["x"].astype(np.float16).astype(np.float32) ** 2
    recording.outputs["cpu"] = {"square": square, "small": square / 1024}
    (cpu,) = [a for a in _replay(recording, tmp_path) if a.unit == "cpu"]
    assert cpu.agrees
    assert cpu.arithmetic == "float32"


def test_a_recording_of_another_package_is_refused(
    recorded: Callable[[str], Recording], tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="got outputs of the package 000000000000, needed"):
        _replay(replace(recorded("gelu"), package_sha256="0" * 64), tmp_path)


def test_what_core_ml_refuses_is_kept_with_its_reason(
    core_ml: type[FakeCoreML],
    recorded: Callable[[str], Recording],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(core_ml, "refuses", ("CPU_AND_GPU",))
    recording = recorded("gelu")
    assert list(recording.outputs) == ["all", "cpu", "cpu-and-neural-engine"]
    assert "compiler says no" in recording.refusals["cpu-and-gpu"]
    assert len(_replay(recording, tmp_path)) == 3
    with pytest.raises(ArtifactError, match="got no outputs"):
        _replay(replace(recording, outputs={}), tmp_path)


@pytest.mark.parametrize("damage", ["schema", "json", "npz", "missing", "empty", "path"])
def test_a_damaged_set_is_refused(damage: str, tmp_path: Path) -> None:
    recording = Recording("gelu", "0" * 64, {"x": np.zeros(3)}, {"cpu": {"y": np.ones(3)}}, {})
    write_recordings(tmp_path, MAC, [recording])
    index = json.loads((tmp_path / INDEX_NAME).read_text())
    if damage == "npz":
        (tmp_path / "gelu.npz").write_bytes(b"PK no archive")
    elif damage == "missing":
        (tmp_path / "gelu.npz").unlink()
    else:
        changes: dict[str, dict[str, object]] = {
            "schema": {"schema": 2},
            "json": {"mac": 3},
            "empty": {"goldens": {}},
            "path": {"goldens": {"../gelu/../x": index["goldens"]["gelu"]}},
        }
        (tmp_path / INDEX_NAME).write_text(json.dumps({**index, **changes[damage]}))
    with pytest.raises(ArtifactError, match="Core ML recordings"):
        read_recordings(tmp_path)


def test_a_set_is_named_after_its_mac() -> None:
    assert folder_name(MAC) == "apple-m2-macos-15.1"
    assert folder_name(replace(MAC, chip=None)) == "mac-macos-15.1"


def test_goldens_of_recordings_must_be_known(tmp_path: Path) -> None:
    recording = Recording("unheard-of", "0" * 64, {}, {}, {})
    with pytest.raises(UnsupportedError, match="unheard-of"):
        _replay(recording, tmp_path)
