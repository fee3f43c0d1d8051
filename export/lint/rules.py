"""What each runtime makes of an operator that is not a plain convolution: a table of measurements.

Every row was found by exporting the operator between two convolutions and reading the file
(``tests/phone_ops.py`` has the operators, ``tests/test_export_lint_rules.py`` measures the rows
again with ``--full``). Versions: the pins of requirements.lock. What is in no row runs inside the
delegate, and as int8 in int8 recipes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from torch.fx import Node

from dfnet.profiles import Precision
from export.lint import patterns
from quantize.recipe import find_recipe


class Consequence(StrEnum):
    """What happens to an operator in a file, in words for the user."""

    WRONG = "computes a wrong result without a word"
    REFUSED = "cannot be exported"
    CRASHES = "makes a file that does not load or run"
    OUTSIDE = "runs outside the delegate, on slow kernels"
    FLOAT = "computes in float"

    @property
    def is_problem(self) -> bool:
        """All but a float island inside the delegate, which costs time only."""
        return self is not Consequence.FLOAT


@dataclass(frozen=True)
class FileKind:
    """What decides which rows concern a file."""

    runtime: str
    backend: str
    recipe: str

    @property
    def converter(self) -> str:
        """Whose rows these are: ExecuTorch's Core ML files are made by coremltools."""
        return "coreml" if self.backend == "coreml" else self.runtime

    @property
    def is_int8(self) -> bool:
        return find_recipe(self.recipe).precision in (Precision.W8A8, Precision.W8A16)


@dataclass(frozen=True)
class Effect:
    """``consequence`` in the files of one runtime; of float recipes, int8 recipes, or both."""

    runtime: str
    consequence: Consequence
    in_float: bool = True
    in_int8: bool = True

    def concerns(self, kind: FileKind) -> bool:
        """Whether files of this kind show the effect."""
        wanted = self.in_int8 if kind.is_int8 else self.in_float
        return kind.converter == self.runtime and wanted

    def __str__(self) -> str:
        both = self.in_float and self.in_int8
        kind = "" if both else " int8" if self.in_int8 else " float"
        return f"{self.runtime}{kind}: {self.consequence.value}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _int8(runtime: str, consequence: Consequence) -> Effect:
    return Effect(runtime, consequence, in_float=False)


def _float(runtime: str, consequence: Consequence) -> Effect:
    return Effect(runtime, consequence, in_int8=False)


def _everywhere(consequence: Consequence) -> tuple[Effect, ...]:
    return Effect("litert", consequence), Effect("executorch", consequence)


@dataclass(frozen=True)
class Rule:
    """Operators, by the names torch.export gives them, that share effects and a rewrite.

    ``pattern`` narrows the match to some uses of them.
    """

    name: str
    operators: tuple[str, ...]
    effects: tuple[Effect, ...]
    rewrite: str
    pattern: Callable[[Node], bool] = lambda node: True

    def applies(self, node: Node) -> bool:
        return str(node.target) in self.operators and self.pattern(node)


_RELU = "ReLU: it fuses into the convolution before it and is int8 everywhere."
_CLAMPS = ("aten.clamp.default", "aten.clamp_.default", "aten.hardtanh.default")
_NORM = "BatchNorm, which is folded into the convolution before it, or no normalization at all."
_RESIZE = "Bilinear resizing (align_corners=False), or pixel_shuffle."

RULES: tuple[Rule, ...] = (
    Rule(
        "constant - x, constant / x after a convolution",
        ("aten.rsub.Scalar", "aten.sub.Tensor", "aten.reciprocal.default", "aten.div.Tensor"),
        (_float("litert", Consequence.WRONG),),
        "constant + (-x); for a quotient, sigmoid or another saturating form.",
        patterns.constant_first,
    ),
    Rule(
        "elu",
        ("aten.elu.default", "aten.elu_.default"),
        _everywhere(Consequence.OUTSIDE),
        _RELU,
    ),
    Rule(
        "mish, softplus",
        ("aten.mish.default", "aten.mish_.default", "aten.softplus.default"),
        (
            *_everywhere(Consequence.OUTSIDE),
            _int8("executorch", Consequence.CRASHES),
        ),
        _RELU,
    ),
    Rule(
        "leaky_relu",
        ("aten.leaky_relu.default", "aten.leaky_relu_.default"),
        (_int8("executorch", Consequence.FLOAT),),
        _RELU,
    ),
    Rule(
        "prelu",
        ("aten.prelu.default",),
        (_int8("litert", Consequence.FLOAT), _int8("executorch", Consequence.FLOAT)),
        _RELU,
    ),
    Rule(
        "gelu, hardswish",
        ("aten.gelu.default", "aten.hardswish.default", "aten.hardswish_.default"),
        (_int8("litert", Consequence.OUTSIDE), _int8("executorch", Consequence.FLOAT)),
        _RELU,
    ),
    Rule(
        "silu, hardsigmoid",
        (
            "aten.silu.default",
            "aten.silu_.default",
            "aten.hardsigmoid.default",
            "aten.hardsigmoid_.default",
        ),
        (_int8("litert", Consequence.FLOAT), _int8("executorch", Consequence.FLOAT)),
        _RELU,
    ),
    Rule(
        "tanh",
        ("aten.tanh.default", "aten.tanh_.default"),
        (_int8("executorch", Consequence.FLOAT),),
        "2 * sigmoid(2x) - 1 folded into what follows, or ReLU.",
    ),
    Rule(
        "clamp to [0, 1]",
        _CLAMPS,
        (Effect("litert", Consequence.OUTSIDE),),
        "relu6, or clip after the network: the pictures it returns are clipped anyway.",
        patterns.clamps_to_unit,
    ),
    Rule(
        "clamp, maximum, minimum",
        (*_CLAMPS, "aten.maximum.default", "aten.minimum.default"),
        (_int8("litert", Consequence.OUTSIDE),),
        "ReLU, relu6 or clamp(-1, 1).",
        patterns.clamps_elsewhere,
    ),
    Rule(
        "ReLU of a tensor that something else reads too",
        ("aten.relu.default", "aten.relu_.default"),
        (_int8("litert", Consequence.OUTSIDE),),
        "Two convolutions, one of them with the ReLU.",
        patterns.shares_its_input,
    ),
    Rule(
        "arithmetic with a number",
        ("aten.add.Tensor", "aten.sub.Tensor", "aten.mul.Tensor", "aten.rsub.Scalar"),
        (_int8("executorch", Consequence.FLOAT),),
        "Fold the number into the weights or the bias of a convolution.",
        patterns.with_a_number,
    ),
    Rule(
        "abs",
        ("aten.abs.default",),
        (_int8("litert", Consequence.OUTSIDE), _int8("executorch", Consequence.FLOAT)),
        "relu(x) + relu(-x), whose halves are int8.",
    ),
    Rule(
        "pow, exp, log, sqrt, division",
        (
            "aten.pow.Tensor_Scalar",
            "aten.exp.default",
            "aten.log.default",
            "aten.sqrt.default",
            "aten.div.Tensor",
        ),
        (_int8("litert", Consequence.FLOAT), _int8("executorch", Consequence.FLOAT)),
        "x * x for a square; fold other functions into weights, or keep them off full resolution.",
        patterns.not_by_a_number,
    ),
    Rule(
        "reciprocal",
        ("aten.reciprocal.default",),
        (Effect("executorch", Consequence.OUTSIDE), _int8("litert", Consequence.FLOAT)),
        "A division of two tensors, or sigmoid.",
    ),
    Rule(
        "matrix product, attention",
        ("aten.matmul.default", "aten.bmm.default"),
        (Effect("executorch", Consequence.OUTSIDE), Effect("litert", Consequence.REFUSED)),
        "Convolutions: attention over pixels grows with their number squared.",
    ),
    Rule(
        "layer_norm, group_norm, instance_norm",
        ("aten.layer_norm.default", "aten.group_norm.default", "aten.instance_norm.default"),
        (
            Effect("executorch", Consequence.OUTSIDE),
            _int8("litert", Consequence.FLOAT),
        ),
        _NORM,
    ),
    Rule(
        "softmax over channels",
        ("aten.softmax.int",),
        (Effect("executorch", Consequence.OUTSIDE), _int8("litert", Consequence.REFUSED)),
        "sigmoid: of two masks one is the other's complement.",
        patterns.not_last_dimension,
    ),
    Rule(
        "softmax along rows",
        ("aten.softmax.int",),
        (_float("executorch", Consequence.WRONG), _int8("litert", Consequence.OUTSIDE)),
        "Flatten to three dimensions first: XNNPACK keeps pictures channels last and takes the "
        "channels for the last dimension.",
        patterns.last_of_four_dimensions,
    ),
    Rule(
        "chunk, split",
        ("aten.chunk.default", "aten.split.Tensor", "aten.split_with_sizes.default"),
        (Effect("executorch", Consequence.OUTSIDE),),
        "Slices, x[:, :n] and x[:, n:], or two convolutions in place of one.",
    ),
    Rule(
        "roll",
        ("aten.roll.default",),
        (Effect("executorch", Consequence.OUTSIDE),),
        "Slices and a concatenation.",
    ),
    Rule(
        "flip",
        ("aten.flip.default",),
        _everywhere(Consequence.OUTSIDE),
        "Flip the inputs before the network.",
    ),
    Rule(
        "reflecting or replicating padding",
        ("aten.pad.default",),
        _everywhere(Consequence.OUTSIDE),
        "Zero padding inside the convolution, or padded inputs.",
        patterns.pads_from_the_picture,
    ),
    Rule(
        "zero padding of its own",
        ("aten.pad.default", "aten.constant_pad_nd.default"),
        (_int8("executorch", Consequence.FLOAT),),
        "The convolution's own padding argument.",
        patterns.pads_with_a_constant,
    ),
    Rule(
        "zero padding before a slice",
        ("aten.pad.default", "aten.constant_pad_nd.default"),
        (_int8("executorch", Consequence.CRASHES),),
        "The convolution's own padding argument.",
        patterns.pads_before_a_slice,
    ),
    Rule(
        "nearest upsampling",
        ("aten.upsample_nearest2d.vec", "aten.upsample_nearest2d.default"),
        _everywhere(Consequence.OUTSIDE),
        _RESIZE,
    ),
    Rule(
        "bicubic upsampling",
        ("aten.upsample_bicubic2d.vec", "aten.upsample_bicubic2d.default"),
        (
            *_everywhere(Consequence.OUTSIDE),
            _int8("litert", Consequence.REFUSED),
            Effect("coreml", Consequence.REFUSED),
        ),
        _RESIZE,
    ),
    Rule(
        "grid_sample",
        ("aten.grid_sampler.default", "aten.grid_sampler_2d.default"),
        _everywhere(Consequence.OUTSIDE),
        "Warp the pictures before the network: the ultra-wide is aligned there anyway.",
    ),
    Rule(
        "transposed convolution",
        ("aten.conv_transpose2d.input",),
        (_int8("litert", Consequence.FLOAT),),
        "Bilinear resizing and a convolution, or a convolution and pixel_shuffle.",
    ),
    Rule(
        "average pooling",
        ("aten.avg_pool2d.default",),
        (_int8("litert", Consequence.OUTSIDE), _int8("executorch", Consequence.FLOAT)),
        "A convolution of stride 2.",
    ),
    Rule(
        "max pooling without a stride",
        ("aten.max_pool2d.default",),
        (Effect("coreml", Consequence.REFUSED),),
        "Write the stride out: max_pool2d(x, 2, 2).",
        patterns.leaves_out_the_stride,
    ),
    Rule(
        "amax",
        ("aten.amax.default", "aten.max.dim"),
        (Effect("executorch", Consequence.OUTSIDE),),
        "Pooling, or a mean.",
    ),
    Rule(
        "where",
        ("aten.where.self",),
        (*_everywhere(Consequence.OUTSIDE), _int8("executorch", Consequence.REFUSED)),
        "m * a + (1 - m) * b with a mask from a sigmoid; for slopes, ReLU.",
    ),
    Rule(
        "the same tensor concatenated with itself",
        ("aten.cat.default",),
        (Effect("executorch", Consequence.OUTSIDE),),
        "Repeat the weights that read it instead.",
        patterns.repeats_a_tensor,
    ),
    Rule(
        "sum",
        ("aten.sum.dim_IntList",),
        (Effect("executorch", Consequence.OUTSIDE),),
        "A mean, or additions.",
    ),
)
