"""Checkpoints: round trip, and one sentence for everything that can be wrong with one."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dfnet.checkpoint import load_checkpoint, load_factory, load_network, save_checkpoint
from dfnet.errors import CheckpointError
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from dfnet.tensors import example_inputs


@pytest.fixture
def saved(tiny_network: DFNet, tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_checkpoint(tiny_network, path, training={"steps": 0})
    return path


def rewrite(path: Path, change: dict[str, torch.Tensor | None]) -> None:
    """Changes tensors and brings the JSON's hash up to date, as an honest mistake would."""
    from dfnet.artifact import sha256_of

    tensors = {k: v for k, v in (load_file(path) | change).items() if v is not None}
    save_file(tensors, path)
    config_path = path.with_suffix(".json")
    config = json.loads(config_path.read_text())
    config_path.write_text(json.dumps({**config, "weights_sha256": sha256_of(path)}))


def test_round_trip_gives_the_same_network(tiny_network: DFNet, saved: Path) -> None:
    loaded = load_checkpoint(saved)
    inputs = example_inputs(Resolution(16, 16))
    with torch.no_grad():
        assert torch.equal(loaded.network(*inputs), tiny_network(*inputs))
    assert not loaded.network.training
    assert loaded.description["training"] == {"steps": 0}


def test_identity_follows_the_weights(tiny_network: DFNet, saved: Path, tmp_path: Path) -> None:
    before = load_checkpoint(saved).sha256
    save_checkpoint(tiny_network, tmp_path / "copy.safetensors", training={})
    assert load_checkpoint(tmp_path / "copy.safetensors").sha256 == before
    with torch.no_grad():
        next(tiny_network.parameters()).add_(1e-3)
    save_checkpoint(tiny_network, saved, training={})
    assert load_checkpoint(saved).sha256 != before


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_network(tmp_path / "absent.safetensors")


def test_truncated_file(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        load_network(saved)


def test_flipped_byte(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[-5] ^= 1
    saved.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="got sha256"):
        load_network(saved)


class Exploit:
    """Writes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.path,))


def test_a_pickle_is_refused_and_never_run(saved: Path, tmp_path: Path) -> None:
    torch.save({"x": Exploit(tmp_path / "ran")}, saved)
    with pytest.raises(CheckpointError, match="got a pickle"):
        load_network(saved)
    assert not (tmp_path / "ran").exists()


def test_missing_and_unknown_keys(saved: Path) -> None:
    first = next(iter(load_file(saved)))
    rewrite(saved, {first: None, "bogus": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"1 tensors are missing .* 1 are unknown"):
        load_network(saved)


def test_wrong_shape(saved: Path) -> None:
    rewrite(saved, {"fusion.mask_head.weight": torch.zeros(4, 4, 1, 1)})
    with pytest.raises(CheckpointError, match=r"mask_head.weight: got shape \(4, 4, 1, 1\)"):
        load_network(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(saved: Path, value: float) -> None:
    rewrite(saved, {"fusion.mask_head.bias": torch.full((4,), value)})
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        load_network(saved)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "got schema 'list'"),
        ('{"schema": 99}', "got schema 99"),
    ],
)
def test_bad_configuration(saved: Path, text: str, message: str) -> None:
    saved.with_suffix(".json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load_network(saved)


def test_another_architecture(saved: Path) -> None:
    config = json.loads(saved.with_suffix(".json").read_text())
    config["architecture"]["name"] = "NAFNet"
    saved.with_suffix(".json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="--factory"):
        load_network(saved)


def test_unknown_architecture_field(saved: Path) -> None:
    config = json.loads(saved.with_suffix(".json").read_text())
    config["architecture"]["depth"] = 3
    saved.with_suffix(".json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="unknown fields"):
        load_network(saved)


def make_foreign() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 3, 3)


def not_a_module() -> int:
    return 7


def test_a_factory_brings_any_module(tmp_path: Path) -> None:
    spec = f"{__name__}:make_foreign"
    plain = load_factory(spec, None)
    weights = tmp_path / "foreign.safetensors"
    save_file({k: v + 1 for k, v in make_foreign().state_dict().items()}, weights)
    assert isinstance(plain.network, nn.Conv2d)
    assert load_factory(spec, weights).sha256 != plain.sha256


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_module:make", "cannot be imported"),
        (f"{__name__}:absent", "cannot be imported"),
        (f"{__name__}:not_a_module", "needed a torch.nn.Module"),
        (__name__, "cannot be imported"),
        ("", "cannot be imported"),
    ],
)
def test_a_bad_factory_is_one_sentence(spec: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_factory(spec, None)
