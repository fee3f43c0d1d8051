"""Quantized programs on disk: made once, the same for every runtime, platform and check.

<folder>/<recipe>-<key>.safetensors    weights and biases after correction, scales, zero points
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.fx import GraphModule

from dfnet.errors import ArtifactError
from quantize.dataflow import held_tensor
from quantize.observers import activations, weights
from quantize.program import Calibration
from quantize.recipe import Recipe

PROGRAMS = "quantized"
"""Folder, inside a command's output, of the programs its files were lowered from."""

_HERE = Path(__file__).parent
_NOT_IN_A_PROGRAM = frozenset({"__init__", "__main__", "search", "sensitivity", "stability"})
"""Modules that study programs and change none."""


def program_key(graph: GraphModule, recipe: Recipe, captures_sha256: str) -> str:
    """Hex sha256 of everything that decides a program: the traced network and its weights, the
    recipe, the calibration captures, this package's own sources, and the versions of its tools."""
    parts = {
        "graph": graph.code,
        "weights": tensors_sha256(_read(graph)),
        "recipe": recipe.to_json(),
        "captures": captures_sha256,
        "sources": sources_sha256(),
        "tools": {name: version(name) for name in ("torch", "torchao")},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read(graph: GraphModule) -> dict[str, Tensor]:
    """Every tensor a graph reads, constants that are no parameters included."""
    nodes = [node for node in graph.graph.nodes if node.op == "get_attr"]
    held = {str(node.target): held_tensor(graph, node) for node in nodes}
    return {name: tensor for name, tensor in held.items() if isinstance(tensor, Tensor)}


@cache
def sources_sha256() -> str:
    """Hex sha256 of this package's files that decide what a program holds, read once a process."""
    digest = hashlib.sha256()
    for path in sorted(_HERE.glob("*.py")):
        if path.stem not in _NOT_IN_A_PROGRAM:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def program_tensors(prepared: GraphModule) -> dict[str, Tensor]:
    """What quantization decided: the graph's tensors, and each quantizer's scale and zero point."""
    tensors = {f"graph.{name}": tensor.detach() for name, tensor in _read(prepared).items()}
    for index, activation in enumerate(activations(prepared)):
        tensors[f"activation.{index}.scale"] = activation.scale
        tensors[f"activation.{index}.zero_point"] = activation.zero_point
    for index, weight in enumerate(weights(prepared)):
        tensors[f"weight.{index}.scale"] = weight.scale
    return tensors


def tensors_sha256(tensors: dict[str, Tensor]) -> str:
    """Hex sha256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def save_program(
    path: Path, prepared: GraphModule, calibration: Calibration, splits: Sequence[str] = ()
) -> None:
    """Writes a calibrated graph, and what was split in it, whole or not at all.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    # Tensors that share memory, as shared weights do, are refused by the format.
    tensors = {name: tensor.clone() for name, tensor in program_tensors(prepared).items()}
    facts = {"calibration": json.dumps(asdict(calibration)), "splits": json.dumps(splits)}
    facts["sha256"] = _file_sha256(tensors, facts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        os.close(handle)
        try:
            save_file(tensors, part, metadata=facts)
            os.replace(part, path)
        finally:
            Path(part).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"Quantized program {path}: cannot be written ({error}). Check permissions and space."
        ) from error


def kept_splits(path: Path) -> tuple[str, ...]:
    """What was split in the graph that ``save_program`` kept; it must be split alike to restore it.

    Raises:
        ArtifactError: the file is not whole.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return tuple(json.loads((file.metadata() or {})["splits"]))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise _unusable(path, str(error)) from error


def restore_program(path: Path, prepared: GraphModule) -> Calibration:
    """Gives ``prepared``, fresh from the same network and recipe, what ``save_program`` kept.

    Raises:
        ArtifactError: the file is not whole, was changed, or belongs to another graph.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _unusable(path, str(error)) from error
    if facts.get("sha256") != _file_sha256(tensors, facts):
        raise _unusable(path, "contents that do not match their hash")
    for index, weight in enumerate(weights(prepared)):
        weight.scale = tensors.get(f"weight.{index}.scale", torch.empty(0))
    targets = program_tensors(prepared)
    if {n: t.shape for n, t in targets.items()} != {n: t.shape for n, t in tensors.items()}:
        raise _unusable(path, "tensors of another graph")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(tensors[name])
    return Calibration(**json.loads(facts["calibration"]))


def _file_sha256(tensors: dict[str, Tensor], facts: dict[str, str]) -> str:
    parts = (tensors_sha256(tensors), facts.get("calibration"), facts.get("splits"))
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()


def _unusable(path: Path, what: str) -> ArtifactError:
    return ArtifactError(
        f"Quantized program {path}: got {what}, needed what an export wrote. Remove the file and "
        "export again."
    )
