"""Post-training quantization: trace, prepare, calibrate, convert."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

from dfnet.captureset import CaptureSet
from dfnet.errors import UnsupportedError
from dfnet.profiles import Precision
from quantize.bias import correct_biases
from quantize.calibrate import Progress, calibrate
from quantize.captures import require_calibration_captures
from quantize.channel_splitting import split_channels, splittable, stagger
from quantize.compensate import compensate_rounding
from quantize.crops import Crop, cut_crops
from quantize.dataflow import read_dataflow
from quantize.equalize import equalize
from quantize.finetune import finetune
from quantize.learning import Lesson, take_lessons
from quantize.prepare import prepare_graph
from quantize.program import Calibration, Program
from quantize.quantizer import RELUS
from quantize.ranges import settle_ranges
from quantize.recipe import Recipe
from quantize.resemblance import require_resemblance
from quantize.rounding import learn_rounding
from quantize.split_choice import choose_splits
from quantize.store import (
    kept_splits,
    program_key,
    program_tensors,
    restore_program,
    save_program,
    tensors_sha256,
)
from quantize.trace import trace
from quantize.weight_only import compensate_weights

log = logging.getLogger(__name__)

CROPS = 384
"""Crops of calibration captures that corrections see."""
_SAMPLE = slice(None, None, 3)
"""The crops that suffice for averages; an odd step, because every second crop is varied."""
_QUANTIZE = torch.ops.quantized_decomposed.quantize_per_tensor.default
_DEQUANTIZE = torch.ops.quantized_decomposed.dequantize_per_tensor.default


@dataclass(frozen=True)
class FloatProgram:
    """A network whose activations stay float. Its weights are stored as int8, if at all, in
    lowering; those of a recipe that compensates have int8's values already, and ``calibration``
    says by what."""

    recipe: Recipe
    network: nn.Module
    calibration: Calibration | None = None

    def module(self, *, fold_weights: bool = True) -> nn.Module:
        """A copy of the network; ``fold_weights`` changes nothing here."""
        return copy.deepcopy(self.network)


@dataclass(frozen=True)
class StaticProgram:
    """A network with calibrated int8 activations and weights, for any size."""

    recipe: Recipe
    prepared: GraphModule
    """The traced graph with its settled quantizers."""
    calibration: Calibration | None
    splits: tuple[str, ...] = ()
    """Results of convolutions that are split in two halves; see ``quantize.channel_splitting``."""

    @cached_property
    def sha256(self) -> str:
        """Identity of every weight, bias, scale and zero point."""
        return tensors_sha256(program_tensors(self.prepared))

    def module(self, *, fold_weights: bool = True) -> nn.Module:
        """A fresh graph with quantize and dequantize operators; see ``Program.module``."""
        module: GraphModule = convert_pt2e(copy.deepcopy(self.prepared), fold_quantize=fold_weights)
        _drop_implied_relus(module)
        return module


def quantize(
    network: nn.Module,
    recipe: Recipe,
    calibration: CaptureSet,
    *,
    store: Path | None = None,
    progress: Progress | None = None,
) -> Program:
    """``network``, which should be fused, quantized after ``recipe``; it is not changed.

    Float recipes do not read ``calibration``. With ``store``, a folder, a program made before from
    the same ingredients is taken from there, and a new one is kept there.

    Raises:
        UnsupportedError: the network cannot be traced; a kept-float name matches no module; no
            convolution is left to quantize; the recipe needs 16-bit activations.
        CalibrationError: see ``calibrate``; or the int8 graph does not resemble its float self.
        ArtifactError: a kept program was altered, or the store cannot be written.
    """
    network = copy.deepcopy(network).eval()
    if not recipe.needs_calibration:
        return FloatProgram(recipe, network)
    if recipe.precision is Precision.W8:
        require_calibration_captures(calibration)
        return FloatProgram(recipe, *compensate_weights(network, calibration))
    if recipe.precision is not Precision.W8A8 or recipe.by_sdk:
        raise UnsupportedError(
            f"Recipe {recipe.name}: got {recipe.precision}, needed {Precision.W8A8} for the graph "
            "that all runtimes share. Choose a runtime that quantizes to it by itself."
        )
    require_calibration_captures(calibration)
    graph = trace(network).module()
    kept = None
    if store is not None:
        key = program_key(graph, recipe, calibration.sha256)
        kept = store / f"{recipe.name}-{key[:16]}.safetensors"
    if kept is not None and kept.exists():
        splits = kept_splits(kept)
        split_channels(graph, splits)
        prepared = prepare_graph(graph, recipe)
        return StaticProgram(recipe, prepared, restore_program(kept, prepared), splits)
    program = _quantize(graph, recipe, calibration, progress)
    require_resemblance(network, program, calibration)
    if kept is not None and program.calibration is not None:
        save_program(kept, program.prepared, program.calibration, program.splits)
    return program


def _quantize(
    graph: GraphModule, recipe: Recipe, captures: CaptureSet, progress: Progress | None
) -> StaticProgram:
    """Equalize, prepare, calibrate, correct."""
    crops = cut_crops(captures, CROPS) if recipe.corrected else ()
    if recipe.equalize:
        log.info("Equalization: %d channels louder", equalize(graph, crops))
    splits = _splits(graph, recipe, captures, crops) if recipe.split_channels else ()
    split_channels(graph, splits)
    prepared = prepare_graph(graph, recipe)
    facts = calibrate(prepared, captures)
    if recipe.rescales:
        with torch.no_grad():
            for crop in crops:
                prepared(*crop)
    learns = recipe.finetune_steps or recipe.rounding_steps
    lessons = take_lessons(prepared, crops) if learns else ()
    assert recipe.observer is not None
    log.info("Ranges: %s", settle_ranges(prepared, recipe.observer))
    stagger(prepared, splits)
    _correct(prepared, recipe, crops, lessons, progress)
    return StaticProgram(recipe, prepared, facts, splits)


def _splits(
    graph: GraphModule, recipe: Recipe, captures: CaptureSet, crops: Sequence[Crop]
) -> tuple[str, ...]:
    """What to split in ``graph``, by the noise of a plain int8 copy of it."""
    assert recipe.observer is not None
    trial = prepare_graph(copy.deepcopy(graph), recipe)
    calibrate(trial, captures)
    settle_ranges(trial, recipe.observer)
    flow = read_dataflow(graph.graph)
    pictures = set(graph.graph.nodes) - flow.before_convolution if recipe.float_image_path else ()
    found = splittable(graph.graph, pictures)
    return choose_splits(graph, trial, found, crops[:: _SAMPLE.step**2], recipe.split_channels)


def _correct(
    prepared: GraphModule,
    recipe: Recipe,
    crops: Sequence[Crop],
    lessons: Sequence[Lesson],
    progress: Progress | None,
) -> None:
    if recipe.correct_biases:
        log.info("Biases corrected: %d", correct_biases(prepared, crops[_SAMPLE]))
    if recipe.compensate:
        compensate_rounding(prepared, crops[_SAMPLE])
    if recipe.finetune_steps:
        finetune(prepared, lessons, recipe.finetune_steps, progress=progress)
    if recipe.rounding_steps:
        learn_rounding(prepared, lessons, recipe.rounding_steps, progress=progress)


def _drop_implied_relus(module: GraphModule) -> None:
    """Removes every ReLU that the quantization after it performs anyway.

    A zero point at the bottom of the code range clamps negative values to zero. Left in place,
    the ReLU hides the quantized result of its convolution from LiteRT, which then computes the
    convolution in float. A ReLU of what is quantized already stays: without it two roundings would
    stand in a row, which litert-torch 0.10.0 takes for one, clamp and all.
    """
    for node in list(module.graph.nodes):
        if node.target not in RELUS or node.args[0].target is _DEQUANTIZE:
            continue
        if node.users and all(map(_clamps_below_zero, node.users)):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.recompile()


def _clamps_below_zero(node: Node) -> bool:
    if node.target is not _QUANTIZE:
        return False
    _, _, zero_point, quant_min = node.args[:4]
    return bool(zero_point == quant_min)
