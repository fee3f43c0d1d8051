"""Named quantization recipes: data, not code."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dfnet.errors import UnsupportedError
from dfnet.profiles import Precision

Observer = Literal["min-max", "histogram"]


@dataclass(frozen=True)
class Recipe:
    """What is quantized, and how.

    ``observer`` chooses activation ranges and is None where activations stay float.
    ``float_image_path`` keeps float every add, subtract, multiply and sigmoid that no convolution
    consumes any more: the image sums, the blend, and the output, which hold nearly all of int8's
    damage in restoration networks. ``keep_float`` names modules that stay float on top.
    """

    name: str
    precision: Precision
    observer: Observer | None = None
    float_image_path: bool = False
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        static = self.precision in (Precision.W8A8, Precision.W8A16)
        if static != (self.observer is not None):
            raise UnsupportedError(
                f"Recipe {self.name}: got observer {self.observer} for {self.precision}, needed "
                "an observer exactly when activations are quantized."
            )

    @property
    def needs_calibration(self) -> bool:
        return self.observer is not None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", Precision.FP32),
        Recipe("fp16", Precision.FP16),
        Recipe("w8", Precision.W8),
        Recipe("int8", Precision.W8A8, observer="min-max", float_image_path=True),
        Recipe("int8-full", Precision.W8A8, observer="min-max"),
        Recipe("w8a16", Precision.W8A16, observer="min-max"),
    )
}


def find_recipe(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        UnsupportedError: lists the recipes.
    """
    if name not in RECIPES:
        raise UnsupportedError(f"Recipe {name!r} is unknown. Choose one of {', '.join(RECIPES)}.")
    return RECIPES[name]
