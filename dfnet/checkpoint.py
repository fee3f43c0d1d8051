"""Checkpoints: weights as safetensors, architecture and provenance as JSON beside them.

reference.safetensors    tensors only; loading never runs code
reference.json           schema, architecture, training provenance, sha256 of the weights file
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dfnet.artifact import sha256_of
from dfnet.errors import CheckpointError
from dfnet.model import DFNet, DFNetConfig

SCHEMA = 1

_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")
"""First bytes of torch.save's zip archives and of bare pickles."""


@dataclass(frozen=True)
class Checkpoint:
    """A network in eval mode, its identity, and where it comes from.

    ``sha256`` covers weights and architecture; ``description`` is the JSON form of both origin and
    training provenance.
    """

    network: nn.Module
    sha256: str
    description: dict[str, Any]


def save_checkpoint(network: DFNet, path: Path, *, training: dict[str, Any]) -> None:
    """Writes ``path`` (.safetensors) and the JSON beside it, each whole or not at all.

    ``training`` is the provenance: data, schedule, scores.
    """
    part = _write_tensors(network, path)
    config = {
        "schema": SCHEMA,
        "architecture": {"name": "DFNet", **asdict(network.config)},
        "training": training,
        "weights_sha256": sha256_of(part),
    }
    config_part = path.with_suffix(".json.part")
    config_part.write_text(json.dumps(config, indent=2) + "\n")
    os.replace(part, path)
    os.replace(config_part, path.with_suffix(".json"))


def save_weights(network: nn.Module, path: Path) -> None:
    """Writes the weights alone to ``path`` (.safetensors), for ``load_factory``."""
    os.replace(_write_tensors(network, path), path)


def _write_tensors(network: nn.Module, path: Path) -> Path:
    """The weights in a file beside ``path``, to be renamed to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".safetensors.part")
    save_file({k: v.detach().contiguous() for k, v in network.state_dict().items()}, part)
    return part


def load_checkpoint(path: Path) -> Checkpoint:
    """The DFNet stored at ``path``.

    Raises:
        CheckpointError: missing, truncated or altered file, a pickle, another schema or
            architecture, wrong keys or shapes, NaN or infinite weights.
    """
    tensors = _read_tensors(path)
    config = _read_config(path.with_suffix(".json"))
    got, needed = sha256_of(path), config.get("weights_sha256")
    if got != needed:
        raise CheckpointError(
            f"Checkpoint {path}: got sha256 {got[:12]}, needed {str(needed)[:12]} as its JSON "
            "says. Restore the matching pair of files."
        )
    network = DFNet(_architecture(config, path))
    _load_weights(network, tensors, path)
    return Checkpoint(network.eval(), _identity(network, config["architecture"]), config)


def load_network(path: Path) -> nn.Module:
    """The network of ``load_checkpoint``; raises the same errors."""
    return load_checkpoint(path).network


def load_factory(spec: str, weights: Path | None) -> Checkpoint:
    """A network of your own: ``spec`` is ``package.module:function`` returning an ``nn.Module``.

    The module must take the inputs of ``dfnet.signature`` and return one tensor. ``weights``
    (safetensors) is loaded into it; None keeps the weights the factory gives.

    Raises:
        CheckpointError: the factory cannot be imported or returns no module, or the weights do
            not fit; see ``load_checkpoint``.
    """
    factory = _import_factory(spec)
    network = factory()
    if not isinstance(network, nn.Module):
        raise CheckpointError(
            f"Factory {spec}: got {type(network).__name__}, needed a torch.nn.Module. "
            "Return the network itself."
        )
    if weights is not None:
        _load_weights(network, _read_tensors(weights), weights)
    source = inspect.getsource(sys.modules[factory.__module__])
    origin = {"factory": spec, "source_sha256": hashlib.sha256(source.encode()).hexdigest()}
    return Checkpoint(network.eval(), _identity(network, origin), {"architecture": origin})


def _import_factory(spec: str) -> Any:
    module_name, _, function_name = spec.partition(":")
    try:
        # The user's module usually lies where the command is run.
        sys.path.insert(0, str(Path.cwd()))
        factory = getattr(importlib.import_module(module_name), function_name or "")
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"Factory {spec!r}: cannot be imported ({error}). Give package.module:function."
        ) from error
    finally:
        sys.path.pop(0)
    if not callable(factory):
        raise CheckpointError(f"Factory {spec!r}: is not callable. Give package.module:function.")
    return factory


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
    except OSError as error:
        raise CheckpointError(
            f"Checkpoint {path}: cannot be read ({error.strerror}). Check the path."
        ) from error
    # A safetensors file is a header length in 8 bytes, which may look like a pickle, then "{".
    if start.startswith(_PICKLE_STARTS) and start[8:] != b"{":
        raise CheckpointError(
            f"Checkpoint {path}: got a pickle (torch.save), needed safetensors: a pickle can run "
            "code. Convert it where you trust it with safetensors.torch.save_file."
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"Checkpoint {path}: is truncated or no safetensors file ({error}). Copy it again."
        ) from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"Checkpoint configuration {path}: cannot be read ({error}). "
            "Keep the .json beside its .safetensors."
        ) from error
    if not isinstance(config, dict) or config.get("schema") != SCHEMA:
        got = config.get("schema") if isinstance(config, dict) else type(config).__name__
        raise CheckpointError(
            f"Checkpoint configuration {path}: got schema {got!r}, needed {SCHEMA}. "
            "Save the checkpoint with this version."
        )
    return config


def _architecture(config: dict[str, Any], path: Path) -> DFNetConfig:
    fields = dict(config.get("architecture") or {})
    if fields.pop("name", None) != "DFNet":
        raise CheckpointError(
            f"Checkpoint {path}: its architecture is not DFNet. Use --factory for your network."
        )
    try:
        fields["multipliers"] = tuple(fields["multipliers"])
        fields["blocks"] = tuple(fields["blocks"])
        return DFNetConfig(**fields)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"Checkpoint {path}: its architecture has missing or unknown fields ({error})."
        ) from error


def _load_weights(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    needed = network.state_dict()
    missing, extra = sorted(set(needed) - set(tensors)), sorted(set(tensors) - set(needed))
    if missing or extra:
        raise CheckpointError(
            f"Checkpoint {path}: {len(missing)} tensors are missing (first: {missing[:1]}) and "
            f"{len(extra)} are unknown (first: {extra[:1]}). Use the matching architecture."
        )
    for name, tensor in tensors.items():
        if tensor.shape != needed[name].shape:
            raise CheckpointError(
                f"Checkpoint {path}, tensor {name}: got shape {tuple(tensor.shape)}, needed "
                f"{tuple(needed[name].shape)}. Use the matching architecture."
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"Checkpoint {path}, tensor {name}: holds NaN or infinite values. "
                "Train again or restore a sound checkpoint."
            )
    network.load_state_dict(tensors)


def _identity(network: nn.Module, architecture: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(architecture, sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
