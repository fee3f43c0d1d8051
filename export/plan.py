"""From what the user asked for to the list of files to make."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from dfnet.errors import UnsupportedError
from dfnet.profiles import Resolution
from dfnet.signature import STRIDE
from export.variants import PLATFORMS, RUNTIMES, Platform, Variant
from quantize.recipe import find_recipe


@dataclass(frozen=True)
class Job:
    """One file to make: a runtime's variant at one resolution, or a bundle that has ``more``."""

    runtime: str
    variant: Variant
    resolution: Resolution
    more: tuple[Resolution, ...] = ()

    @property
    def resolutions(self) -> tuple[Resolution, ...]:
        return (self.resolution, *self.more)

    @property
    def sizes(self) -> str:
        """The resolutions as ids and tables write them."""
        return "+".join(map(str, self.resolutions))

    @property
    def stem(self) -> str:
        """What the id of every build of this job starts with."""
        variant = self.variant
        return f"{self.runtime}-{variant.backend}-{variant.recipe}-{self.sizes}"

    def __str__(self) -> str:
        variant = self.variant
        return f"{self.runtime} {variant.backend} {variant.recipe} {self.sizes}"


@dataclass(frozen=True)
class Selection:
    """Which files to make. Empty ``runtimes`` means all, empty ``recipes`` the usual ones.

    ``bundle`` asks for one file with all resolutions from the runtimes that can write one, see
    ``RuntimeRow.bundles``; the others make a file per resolution.

    Raises:
        UnsupportedError: an unknown platform, runtime or recipe; no resolution, or one that is
            not a multiple of the network's stride; a bundle of one; or nothing matches. The
            message lists what there is.
    """

    platform: Platform
    resolutions: tuple[Resolution, ...]
    runtimes: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    bundle: bool = False

    def __post_init__(self) -> None:
        _require_known("Platform", (self.platform,), PLATFORMS)
        _require_known("Runtime", self.runtimes, RUNTIMES)
        for recipe in self.recipes:
            find_recipe(recipe)
        if not self.resolutions:
            raise UnsupportedError("Resolutions: got none, needed at least one. Use --resolution.")
        for resolution in self.resolutions:
            resolution.require_multiple_of(STRIDE)
        if self.bundle and len(set(self.resolutions)) < 2:
            raise UnsupportedError(
                f"Bundle: got the resolution {self.resolutions[0]} alone, needed several. Give "
                "--resolution more than once, or drop --bundle."
            )
        if not self.jobs():
            raise UnsupportedError(self._nothing())

    def jobs(self) -> tuple[Job, ...]:
        """The files to make, runtimes in table order; each once."""
        jobs = (job for runtime, variant in self._variants() for job in self._of(runtime, variant))
        return tuple(dict.fromkeys(jobs))

    def _of(self, runtime: str, variant: Variant) -> Iterator[Job]:
        first, *more = dict.fromkeys(self.resolutions)
        if self.bundle and variant.backend in RUNTIMES[runtime].bundles:
            yield Job(runtime, variant, first, tuple(more))
        else:
            yield from (Job(runtime, variant, resolution) for resolution in self.resolutions)

    def _variants(self) -> Iterator[tuple[str, Variant]]:
        for key, row in RUNTIMES.items():
            if self.runtimes and key not in self.runtimes:
                continue
            for variant in row.variants:
                wanted = variant.recipe in self.recipes if self.recipes else not variant.on_request
                if variant.platform == self.platform and wanted:
                    yield key, variant

    def _nothing(self) -> str:
        offers = "; ".join(
            f"{key}: {', '.join(dict.fromkeys(recipes))}"
            for key, row in RUNTIMES.items()
            if (recipes := [v.recipe for v in row.variants if v.platform == self.platform])
        )
        return (
            f"Platform {self.platform}: got runtimes {', '.join(self.runtimes) or 'all'} with "
            f"recipes {', '.join(self.recipes) or 'all usual ones'}, which make no file. "
            f"There are {offers}."
        )


def _require_known(kind: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise UnsupportedError(f"{kind} {name!r} is unknown. Choose one of {', '.join(known)}.")
