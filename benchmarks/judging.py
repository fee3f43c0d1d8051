"""Ruling on an artifact's outputs: the chain of hops, then the quality against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmarks.candidate import Outputs
from benchmarks.graphs import Graphs, Link, recipe_of
from benchmarks.identity import key_of, source_sha256
from benchmarks.mosaic import Mosaic, fill_frame
from benchmarks.parity import (
    BYTE_BARS,
    GRAPH_BARS,
    GRAPH_GAP_BAR,
    RUNTIME_BARS,
    ParityResult,
    compare,
    in_bytes,
)
from benchmarks.quality import QualityResult, bars_for, score
from benchmarks.references import SOURCES, reference_outputs
from benchmarks.request import Request
from benchmarks.verdict import Bar, Verdict, combine, judge
from dfnet.artifact import Artifact
from dfnet.capture import Capture, Image
from dfnet.manifest import Manifest
from dfnet.profiles import Precision, Resolution
from dfnet.runner import Device
from quantize.recipe import Recipe
from quantize.store import PROGRAMS


@dataclass(frozen=True)
class Ruling:
    """The hops from the trained network to the runtime, the whole way at once, and the quality;
    ``device`` is what ran the last hop. ``simulated`` says that the graph before it is quantized
    as the file is; otherwise that graph is the float network."""

    device: Device
    hops: tuple[ParityResult, ...]
    total: ParityResult
    quality: QualityResult
    simulated: bool

    @property
    def parity(self) -> Verdict:
        checks = {f"{hop.reference} to {hop.candidate}": hop.verdict for hop in self.hops}
        if self.graph_gap_db is not None:
            checks["graph gap"] = judge({"graph_gap_db": self.graph_gap_db}, [GRAPH_GAP_BAR])
        return combine(checks)

    @property
    def graph_gap_db(self) -> float | None:
        """Difference between the file's and its quantized graph's PSNR against the float network;
        None for a file that was lowered from the float network itself."""
        if not self.simulated:
            return None
        file_db, graph_db = (one.figures["psnr_db"] for one in (self.total, self.hops[-2]))
        return None if file_db is None or graph_db is None else abs(file_db - graph_db)

    @property
    def figures(self) -> dict[str, float | None]:
        """What reports show: distance from the trained network, from the lowered graph
        (``graph_...``), and the quality."""
        last = {f"graph_{name}": value for name, value in self.hops[-1].figures.items()}
        gap = {"graph_gap_db": self.graph_gap_db}
        return {**self.total.figures, **last, **gap, **self.quality.figures}


class Judge:
    """What the rulings of one command share: captures, mosaics and references, made when needed."""

    def __init__(self, request: Request) -> None:
        self._folder = request.folder / "references"
        self._set = request.captures
        self._graphs = Graphs(
            request.checkpoint, request.calibration, request.captures, request.folder / PROGRAMS
        )
        self._mosaics: dict[Resolution, tuple[Mosaic, ...]] = {}
        self._kept: dict[str, tuple[Image, ...]] = {}

    @cached_property
    def _captures(self) -> tuple[Capture, ...]:
        return tuple(self._set)

    def mosaics(self, resolution: Resolution) -> tuple[Mosaic, ...]:
        """The captures laid out at ``resolution``; see ``benchmarks.mosaic.fill_frame``."""
        if resolution not in self._mosaics:
            # Only the latest is kept: a large frame's pictures take gigabytes.
            self._mosaics = {resolution: fill_frame(self._captures, resolution)}
            self._kept = {}
        return self._mosaics[resolution]

    def rule(self, artifact: Artifact, outputs: Outputs) -> Ruling:
        """Compares ``outputs`` with every reference they descend from, and with the truth."""
        manifest = artifact.manifest
        recipe, mosaics = recipe_of(manifest), self.mosaics(manifest.resolution)
        links = self._graphs.chain(manifest)
        references = [self._outputs(link, manifest.resolution) for link in links]
        trained = references[0]
        hops = self._hops(manifest, links, [*references, outputs.images])
        if recipe.app_io:
            trained = in_bytes(trained)
        total = compare(
            mosaics,
            trained,
            outputs.images,
            names=(links[0].name, manifest.runtime),
            bars=[bar for bar in bars_for(recipe) if bar.figure == "psnr_db"],
        )
        quality = score(mosaics, trained, outputs.images, parity=total, recipe=recipe)
        return Ruling(outputs.device, hops, total, quality, _simulated(recipe))

    def trained(self, artifact: Artifact) -> tuple[Image, ...]:
        """The trained network's outputs on the mosaics of the artifact's resolution."""
        manifest = artifact.manifest
        outputs = self._outputs(self._graphs.chain(manifest)[0], manifest.resolution)
        return in_bytes(outputs) if recipe_of(manifest).app_io else outputs

    def _hops(
        self, manifest: Manifest, links: Sequence[Link], outputs: Sequence[Sequence[Image]]
    ) -> tuple[ParityResult, ...]:
        recipe, mosaics = recipe_of(manifest), self.mosaics(manifest.resolution)
        names = [*(link.name for link in links), manifest.runtime]
        bars = [*(link.bars for link in links), _runtime_bars(recipe)]
        hops = []
        for i in range(1, len(names)):
            pair = outputs[i - 1], outputs[i]
            # A file that gives bytes is compared with what its references are in bytes; folding,
            # the first hop, stays a matter of floats.
            before, after = map(in_bytes, pair) if recipe.app_io and i > 1 else pair
            hops.append(
                compare(mosaics, before, after, names=(names[i - 1], names[i]), bars=bars[i])
            )
        return tuple(hops)

    def _outputs(self, link: Link, resolution: Resolution) -> tuple[Image, ...]:
        key = key_of(
            link.identity,
            self._set.sha256,
            self._set.ids,
            str(resolution),
            source_sha256(SOURCES),
        )
        if key not in self._kept:
            path = self._folder / f"{key}.npz"
            self._kept[key] = reference_outputs(path, self.mosaics(resolution), link.network)
        return self._kept[key]


def _simulated(recipe: Recipe) -> bool:
    return recipe.precision is Precision.W8A8 and not recipe.by_sdk


def _runtime_bars(recipe: Recipe) -> tuple[Bar, ...]:
    """Of the last hop. An SDK that quantizes does so in that hop, so it is held to what quantizing
    may cost."""
    if recipe.app_io:
        return BYTE_BARS[recipe.precision]
    return (GRAPH_BARS if recipe.by_sdk else RUNTIME_BARS)[recipe.precision]
