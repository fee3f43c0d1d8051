"""A quantized program is kept whole or not at all, and restored only as it was."""

from __future__ import annotations

import copy
import errno
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch.fx import GraphModule

from dfnet.errors import ArtifactError
from quantize.channel_splitting import split_channels
from quantize.program import Calibration
from quantize.store import (
    kept_splits,
    program_tensors,
    restore_program,
    save_program,
    tensors_sha256,
)

from small_networks import calibrated, int8_outputs, noise_crops, restorer, traced

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")

FACTS = Calibration("a" * 64, 8, 24, {"wide": {"minimum": 0.0, "maximum": 1.0}}, {"refocus": 8})


@pytest.fixture(scope="module")
def graph() -> GraphModule:
    return traced(restorer())


@pytest.fixture
def prepared(graph: GraphModule) -> GraphModule:
    return calibrated(graph)


@pytest.fixture
def file(tmp_path: Path, prepared: GraphModule) -> Path:
    path = tmp_path / "store" / "plain.safetensors"
    save_program(path, prepared, FACTS)
    return path


def refused(path: Path, prepared: GraphModule) -> str:
    """What ``restore_program`` says about a file it must not accept."""
    with pytest.raises(ArtifactError) as error:
        restore_program(path, copy.deepcopy(prepared))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_was_saved_is_restored(graph: GraphModule, prepared: GraphModule, file: Path) -> None:
    other = calibrated(graph)
    with torch.no_grad():
        for tensor in program_tensors(other).values():
            tensor.add_(1)
    fresh = tensors_sha256(program_tensors(other))

    facts = restore_program(file, other)

    assert facts == FACTS
    assert fresh != tensors_sha256(program_tensors(prepared))
    assert tensors_sha256(program_tensors(other)) == tensors_sha256(program_tensors(prepared))
    crops = noise_crops(1)
    assert torch.equal(int8_outputs(other, crops), int8_outputs(prepared, crops))


def test_what_was_split_is_kept(graph: GraphModule, tmp_path: Path) -> None:
    path, names = tmp_path / "split.safetensors", ("relu", "conv2d_1")
    halves = copy.deepcopy(graph)
    split_channels(halves, names)
    save_program(path, calibrated(halves), FACTS, names)

    assert kept_splits(path) == names
    assert restore_program(path, calibrated(halves)) == FACTS
    assert "of another graph" in refused(path, calibrated(graph))


def test_a_file_without_splits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "part.safetensors").write_bytes(b"no safetensors")

    with pytest.raises(ArtifactError, match="Remove the file and export again"):
        kept_splits(tmp_path / "part.safetensors")


def places(file: bytes, part: str) -> range:
    """Where a part of a program's file lies: its header's length, facts, or its tensors."""
    header = 8 + int.from_bytes(file[:8], "little")
    facts = file.index(b'"calibration"')
    return {
        "length": range(8),
        "facts": range(facts, file.index(b'}}"', facts), 7),
        "hash": range(file.index(b'"sha256"'), file.index(b'"sha256"') + 60, 7),
        "descriptions": range(file.index(b'"graph.'), header, 31),
        "tensors": range(header, len(file), 101),
    }[part]


@pytest.mark.parametrize(
    "part",
    [
        "length",
        "facts",
        "hash",
        "descriptions",
        "tensors",
    ],
)
def test_a_flipped_bit_is_refused(part: str, file: Path, prepared: GraphModule) -> None:
    intact = file.read_bytes()

    for place in places(intact, part):
        flipped = bytearray(intact)
        flipped[place] ^= 1
        file.write_bytes(flipped)
        assert str(file) in refused(file, prepared)
    file.write_bytes(intact)
    restore_program(file, prepared)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(share: float, file: Path, prepared: GraphModule) -> None:
    intact = file.read_bytes()
    file.write_bytes(intact[: int(share * len(intact))])

    assert "Remove the file and export again" in refused(file, prepared)


def test_a_file_of_another_graph_is_refused(file: Path) -> None:
    assert "tensors of another graph" in refused(file, calibrated(traced(restorer(width=5))))


def test_a_folder_in_its_place_is_refused(tmp_path: Path, prepared: GraphModule) -> None:
    assert str(tmp_path) in refused(tmp_path, prepared)


def test_a_store_that_cannot_be_a_folder_is_refused(tmp_path: Path, prepared: GraphModule) -> None:
    (tmp_path / "store").write_text("in the way")

    with pytest.raises(ArtifactError, match="cannot be written"):
        save_program(tmp_path / "store" / "plain.safetensors", prepared, FACTS)


@pytest.mark.parametrize(
    "interrupted",
    [
        OSError(errno.ENOSPC, "No space left"),
        KeyboardInterrupt(),
        SafetensorError("I/O error: No space left on device"),
    ],
)
def test_nothing_half_written_is_left(
    interrupted: BaseException,
    tmp_path: Path,
    prepared: GraphModule,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(tensors: object, path: str, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise interrupted

    monkeypatch.setattr("quantize.store.save_file", fail)

    with pytest.raises((ArtifactError, KeyboardInterrupt)):
        save_program(tmp_path / "plain.safetensors", prepared, FACTS)
    assert list(tmp_path.iterdir()) == []


def test_saving_again_leaves_one_whole_file(file: Path, prepared: GraphModule) -> None:
    save_program(file, prepared, FACTS)

    assert list(file.parent.iterdir()) == [file]
    assert restore_program(file, prepared) == FACTS
