"""Mutants of operation semantics, and a program that looks for tests that notice them.

``python tests/mil_mutants.py`` runs the goldens once unchanged, then once per mutant until the
first failure, and prints JSON: mutant -> the test that failed, or null.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import export.mil.ops  # noqa: F401 - fills the registry
from export.mil.registry import OPERATIONS, Call, Value

Arguments = dict[str, Sequence[Value]]
Run = Callable[[Call, Arguments], Sequence[torch.Tensor]]
Mutation = Callable[[Run, Call, Arguments], Sequence[torch.Tensor]]

UNCHANGED = "unchanged"
GOLDENS = (
    "arithmetic", "compression", "convolution", "elementwise", "indexing", "pooling", "rearrange",
    "resize", "shape",
)  # fmt: skip
"""Test files, by the middle of their names."""


def _change(name: str, change: Callable[[Any], Any]) -> Mutation:
    """Runs with the argument ``name`` changed, where it is given."""

    def mutated(run: Run, call: Call, arguments: Arguments) -> Sequence[torch.Tensor]:
        if name in arguments:
            changed = [change(value) for value in arguments[name]]
            arguments = {**arguments, name: changed}
        return run(call, arguments)

    return mutated


def _drop(name: str) -> Mutation:
    return lambda run, call, arguments: run(
        call, {key: value for key, value in arguments.items() if key != name}
    )


def _flip(name: str, default: bool) -> Mutation:
    """Runs with a switch turned; ``default`` is what its absence means."""

    def mutated(run: Run, call: Call, arguments: Arguments) -> Sequence[torch.Tensor]:
        (given,) = arguments.get(name, [torch.tensor(default)])
        return run(call, {**arguments, name: [torch.logical_not(torch.as_tensor(given))]})

    return mutated


def _exchange(name: str, first: str, second: str, default: str) -> Mutation:
    """Runs with two choices of a text parameter exchanged."""

    def mutated(run: Run, call: Call, arguments: Arguments) -> Sequence[torch.Tensor]:
        (given,) = arguments.get(name, [default])
        chosen = {first: second, second: first}.get(str(given), given)
        return run(call, {**arguments, name: [chosen]})

    return mutated


def _as(type_: str, **names: str) -> Mutation:
    """Runs another operation, with arguments renamed."""
    other = OPERATIONS[type_]
    return lambda run, call, arguments: other(
        call, {names.get(key, key): value for key, value in arguments.items()}
    )


def _result(change: Callable[[Sequence[torch.Tensor]], Sequence[torch.Tensor]]) -> Mutation:
    return lambda run, call, arguments: change(run(call, arguments))


def _reverse(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flip(0)


MUTANTS: dict[str, tuple[str, Mutation]] = {
    "upsample_bilinear takes the other corners": (
        "upsample_bilinear",
        _flip("align_corners", True),
    ),
    "resize reads the other grid": (
        "resize",
        _exchange("sampling_mode", "DEFAULT", "UNALIGN_CORNERS", "DEFAULT"),
    ),
    "resize_bilinear aligns loosely": (
        "resize_bilinear",
        _exchange("sampling_mode", "STRICT_ALIGN_CORNERS", "OFFSET_CORNERS", "DEFAULT"),
    ),
    "resample takes the other corners": ("resample", _flip("align_corners", False)),
    "resample pads otherwise": (
        "resample",
        _exchange("padding_mode", "reflection", "symmetric", ""),
    ),
    "pad reads its sides backwards": ("pad", _change("pad", _reverse)),
    "depth_to_space in pixel_shuffle's order": (
        "depth_to_space",
        _as("pixel_shuffle", block_size="upscale_factor"),
    ),
    "space_to_depth in pixel_unshuffle's order": (
        "space_to_depth",
        _as("pixel_unshuffle", block_size="downscale_factor"),
    ),
    "pixel_shuffle in depth_to_space's order": (
        "pixel_shuffle",
        _as("depth_to_space", upscale_factor="block_size"),
    ),
    "concat forgets to interleave": ("concat", _drop("interleave")),
    "split gives its parts backwards": ("split", _result(lambda parts: list(parts)[::-1])),
    "avg_pool counts padding otherwise": (
        "avg_pool",
        _flip("exclude_padding_from_average", False),
    ),
    "max_pool forgets ceil_mode": ("max_pool", _drop("ceil_mode")),
    "conv pads on the other side": (
        "conv",
        _exchange("pad_type", "same", "same_lower", "valid"),
    ),
    "conv_transpose reads its pads backwards": ("conv_transpose", _change("pad", _reverse)),
    "conv_transpose forgets output_shape": ("conv_transpose", _drop("output_shape")),
    "quantize forgets the zero point": ("quantize", _drop("zero_point")),
    "quantize rounds down": (
        "quantize",
        _change("input", lambda x: x - 0.499 * x.abs().max() / 127),
    ),
    "dequantize forgets the zero point": ("dequantize", _drop("zero_point")),
    "affine weights forget the zero point": (
        "constexpr_affine_dequantize",
        _change("zero_point", torch.zeros_like),
    ),
    "blockwise weights forget the offset": ("constexpr_blockwise_shift_scale", _drop("offset")),
    "palette read backwards": (
        "constexpr_lut_to_dense",
        _change("lut", lambda t: t.flip(-2 if t.dim() > 1 else 0)),
    ),
    "sparse weights filled backwards": (
        "constexpr_sparse_to_dense",
        _change("nonzero_data", _reverse),
    ),
    "batch_norm with another epsilon": ("batch_norm", _change("epsilon", lambda e: e * 100)),
    "layer_norm with another epsilon": ("layer_norm", _change("epsilon", lambda e: e * 100)),
    "prelu reads channels backwards": ("prelu", _change("alpha", _reverse)),
    "leaky_relu a hundredth steeper": ("leaky_relu", _change("alpha", lambda a: a * 1.01)),
    "gelu in the other approximation": (
        "gelu",
        _exchange("mode", "EXACT", "TANH_APPROXIMATION", "EXACT"),
    ),
    "softmax over the first axis": ("softmax", _change("axis", torch.zeros_like)),
    "cast rounds": ("cast", _change("x", lambda x: x.round() if x.is_floating_point() else x)),
    "slice forgets the end mask": ("slice_by_index", _drop("end_mask")),
    "gather reads backwards": (
        "gather",
        _change("indices", lambda i: i.flip(-1) if i.dim() else i),
    ),
    "scatter overwrites": ("scatter", _change("mode", lambda mode: "update")),
    "topk from the other end": ("topk", _flip("ascending", False)),
    "cumsum leaves itself out": ("cumsum", _flip("exclusive", False)),
    "matmul forgets to transpose": ("matmul", _drop("transpose_y")),
}


class _FirstFailure:
    name: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.name is None:
            self.name = report.nodeid


def find(files: Sequence[str]) -> dict[str, str | None]:
    """Mutant -> the first test of ``files`` that fails with it."""
    found = {UNCHANGED: _first_failure(files)}
    for name, (type_, mutation) in MUTANTS.items():
        kernel = OPERATIONS[type_]
        OPERATIONS[type_] = mutant(kernel, mutation)
        found[name] = _first_failure(files)
        OPERATIONS[type_] = kernel
    return found


def mutant(run: Run, mutation: Mutation) -> Any:
    """Stands where the kernel ``run`` does in the registry."""

    def mutated(call: Call, arguments: Mapping[str, Sequence[Value]]) -> Sequence[torch.Tensor]:
        return mutation(run, call, dict(arguments))

    return mutated


def _first_failure(files: Sequence[str]) -> str | None:
    watch = _FirstFailure()
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(["-x", "-q", "--tb=no", "-p", "no:cacheprovider", *files], plugins=[watch])
    return watch.name


if __name__ == "__main__":
    folder = Path(__file__).parent
    print(json.dumps(find([str(folder / f"test_mil_{name}.py") for name in GOLDENS])))
    sys.exit(0)
