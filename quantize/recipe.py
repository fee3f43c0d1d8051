"""Named quantization recipes: data, not code."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from dfnet.errors import UnsupportedError
from dfnet.profiles import Precision

Observer = Literal["min-max", "least-error"]


@dataclass(frozen=True)
class Recipe:
    """What is quantized, and how.

    ``observer`` chooses activation ranges (see ``quantize.ranges``) and is None where activations
    stay float. ``float_image_path`` keeps float every add, subtract, multiply and sigmoid that no
    convolution consumes any more: the image sums, the blend, and the output, which hold nearly all
    of int8's damage in restoration networks. ``keep_float`` names modules that stay float on top.
    ``float_heads`` is the share of all multiply-accumulates that may be spent on keeping float the
    convolutions that write pictures and masks. ``unit_pictures`` gives pictures the fixed range
    [0, 1] instead of a measured one.

    Corrections, each of which can be left out: ``split_blend`` (``quantize.blend``), ``equalize``
    (``quantize.equalize``), ``split_channels`` at the cost of at most this share of all
    multiply-accumulates (``quantize.channel_splitting``), ``correct_biases`` (``quantize.bias``),
    ``compensate`` in rounding weights (``quantize.compensate``) or ``rounding_steps`` of adaptive
    rounding (``quantize.rounding``); ``finetune_steps`` of quantization-aware fine-tuning
    (``quantize.finetune``) come after compensation and before adaptive rounding. Without any,
    weights are rounded to nearest.

    For comparison: ``by_sdk``, the runtime's SDK quantizes by its own defaults; not ``fused``, the
    network goes to the runtime as it was trained.

    ``app_io`` changes no number of the network: the file takes and gives pictures as bytes.
    """

    name: str
    precision: Precision
    observer: Observer | None = None
    float_image_path: bool = False
    keep_float: tuple[str, ...] = ()
    float_heads: float = 0.0
    unit_pictures: bool = True
    split_blend: bool = False
    equalize: bool = False
    split_channels: float = 0.0
    correct_biases: bool = False
    compensate: bool = False
    rounding_steps: int = 0
    finetune_steps: int = 0
    by_sdk: bool = False
    fused: bool = True
    app_io: bool = False

    def __post_init__(self) -> None:
        static = self.precision in (Precision.W8A8, Precision.W8A16)
        if (static and not self.by_sdk) != (self.observer is not None):
            raise UnsupportedError(
                f"Recipe {self.name}: got observer {self.observer} for {self.precision}, needed "
                "an observer exactly when this project quantizes activations."
            )

        if self.compensate and self.rounding_steps:
            raise UnsupportedError(
                f"Recipe {self.name}: got weights to round by compensation and by learning, needed "
                "one of the two. Turn one of them off."
            )

    @property
    def of_program(self) -> Recipe:
        """The recipe that decides what is computed; those with ``app_io`` have another's."""
        return find_recipe(self.name.removesuffix(APP)) if self.app_io else self

    @property
    def needs_calibration(self) -> bool:
        return self.observer is not None or self.by_sdk or self.compensate

    @property
    def corrected(self) -> bool:
        """Whether anything beyond ranges is fitted to the calibration captures."""
        fitted = self.correct_biases or self.compensate or self.split_channels
        return bool(self.rescales or fitted)

    @property
    def rescales(self) -> bool:
        """Whether channels or ranges move, so that ranges must be fit for unusual requests too."""
        return bool(self.equalize or self.rounding_steps or self.finetune_steps)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


ROUNDING_STEPS = 1000
FINETUNE_STEPS = 3000
EXTRA_WORK = 0.2
APP = "-app"
"""Ends the names of recipes that take and give pictures as bytes."""
_APP = ("fp32", "fp16", "w8", "int8", "int8-full")
_NAIVE = Recipe("int8-naive", Precision.W8A8, observer="min-max", float_image_path=True)
_COMPENSATED = replace(_NAIVE, name="int8-compensated", compensate=True)
_INT8 = replace(_COMPENSATED, name="int8", split_channels=EXTRA_WORK)
_FULL = Recipe("int8-full", Precision.W8A8, "min-max", split_blend=True, compensate=True)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", Precision.FP32),
        Recipe("fp32-unfused", Precision.FP32, fused=False),
        Recipe("fp16", Precision.FP16),
        Recipe("w8", Precision.W8, compensate=True),
        _INT8,
        _FULL,
        _NAIVE,
        replace(_NAIVE, name="int8-biases", correct_biases=True),
        replace(
            _NAIVE,
            name="int8-learned",
            equalize=True,
            correct_biases=True,
            rounding_steps=ROUNDING_STEPS,
        ),
        replace(_INT8, name="int8-finetuned", finetune_steps=FINETUNE_STEPS),
        _COMPENSATED,
        replace(_FULL, name="int8-full-naive", split_blend=False, compensate=False),
        Recipe("w8a16", Precision.W8A16, observer="min-max", compensate=True),
        Recipe("sdk-default", Precision.W8A8, by_sdk=True),
    )
}
RECIPES |= {name + APP: replace(RECIPES[name], name=name + APP, app_io=True) for name in _APP}


def find_recipe(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        UnsupportedError: lists the recipes.
    """
    if name not in RECIPES:
        raise UnsupportedError(f"Recipe {name!r} is unknown. Choose one of {', '.join(RECIPES)}.")
    return RECIPES[name]
