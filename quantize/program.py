"""What a runtime lowers: one module per recipe, with the facts of its calibration."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import nn

from quantize.recipe import Recipe


@dataclass(frozen=True)
class Calibration:
    """What calibrated a program: identity and coverage.

    ``coverage[input]`` holds ``minimum``, ``maximum``, ``mean`` over all calibration feeds, and
    ``target_kinds`` counts the feeds per kind of target map.
    """

    sha256: str
    captures: int
    feeds: int
    coverage: dict[str, dict[str, float]]
    target_kinds: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Program(Protocol):
    """A network ready to be lowered.

    ``module()`` takes the tensors of ``dfnet.signature.INPUTS`` in order, float32 NCHW of any
    height and width that are multiples of 8, and returns the output tensor. For static recipes it
    holds ``quantized_decomposed`` quantize/dequantize operators; running it is the simulation
    that every runtime's file is compared with.
    """

    @property
    def recipe(self) -> Recipe: ...

    @property
    def calibration(self) -> Calibration | None:
        """None when activations stay float."""

    def module(self, *, fold_weights: bool = True) -> nn.Module:
        """A fresh module. With ``fold_weights`` weights are stored as int8 + dequantize;
        without, as float + quantize + dequantize (what litert-torch needs)."""
