"""Recipes that a search tries, from the cheapest on, and what each has been found to do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from quantize.recipe import Recipe
from quantize.study.tensors import Cost

if TYPE_CHECKING:
    from quantize.sensitivity import Row
    from quantize.study.scoring import Score


@dataclass(frozen=True)
class Candidate:
    """A recipe, its cost, and its score on the captures to decide on."""

    recipe: Recipe
    cost: Cost
    score: Score

    @property
    def drop_db(self) -> float:
        return self.score.mean_drop_db

    def beaten_by(self, other: Candidate) -> bool:
        """Whether ``other`` costs no more and loses less."""
        pairs = zip(_figures(other.cost), _figures(self.cost), strict=True)
        return all(one <= two for one, two in pairs) and other.drop_db < self.drop_db

    def to_json(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.to_json(),
            "cost": asdict(self.cost),
            "score": self.score.to_json(),
        }


def _figures(cost: Cost) -> tuple[float, ...]:
    return (cost.macs, cost.mac_share, cost.weight_bytes, cost.boundaries)


def with_float(recipe: Recipe, modules: Sequence[str]) -> Recipe:
    """``recipe`` with ``modules`` kept float on top, named after how many they are."""
    name = f"{recipe.name}-float{len(modules)}"
    return replace(recipe, name=name, keep_float=(*recipe.keep_float, *modules))


def float_order(rows: Sequence[Row]) -> Iterator[str]:
    """Modules to keep float, the one that regains most dB per MAC next.

    What a module regains is the sum over its weights and over the activations that are no longer
    rounded once it is float too. Ends before the last int8 convolution, and where nothing is left
    to regain.
    """
    kept: list[str] = []
    while True:
        gains = {
            block: gain
            for block in sorted({row.tensor.block for row in rows if row.tensor.block})
            if not _inside(block, kept) and (gain := _gain(rows, kept, block)) > 0
        }
        if not gains:
            return
        best = max(gains, key=gains.__getitem__)
        kept.append(best)
        if all(_vanishes(row, kept) for row in rows if row.tensor.kind == "weight"):
            return
        yield best


def _gain(rows: Sequence[Row], kept: list[str], block: str) -> float:
    """The dB per MAC of keeping ``block`` float beside ``kept``."""
    more = [*kept, block]
    freed = [row for row in rows if _vanishes(row, more) and not _vanishes(row, kept)]
    return sum(row.regained_db for row in freed) / sum(row.tensor.macs for row in freed)


def _vanishes(row: Row, kept: Collection[str]) -> bool:
    """Whether a tensor stays float when the modules ``kept`` do."""
    tensor = row.tensor
    return _inside(tensor.module, kept) and all(_inside(name, kept) for name in tensor.readers)


def _inside(module: str, kept: Collection[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in kept)
