"""One file on a report page. Every number is looked up by its path in what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from markupsafe import Markup

from benchmarks.device_parity import DeviceParity, bars_of
from benchmarks.device_results import DeviceLatency
from benchmarks.html_pictures import Shown
from benchmarks.parity import GRAPH_GAP_BAR
from benchmarks.results import Checks, Comparison
from benchmarks.row import Row
from benchmarks.rows import DELEGATION_BAR, SIZE_BAR
from benchmarks.shipping import Decision
from benchmarks.timing import LatencyResult
from benchmarks.verdict import Bar, Verdict, not_run
from dfnet.artifact import Artifact

PLACES = ("fused", "quantized graph", "host runtime", "emulator", "device")
"""Where a decibel can be lost, in order."""


@dataclass(frozen=True)
class Hop:
    """One hop of the chain; ``figures`` is the path of its figures, None when it was not run."""

    place: str
    reference: str
    candidate: str
    verdict: Verdict
    figures: str | None
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class FilePage:
    """What a page says of one file. ``data`` holds ``row``, ``manifest``, ``checks`` (None when
    it was never judged), ``latencies`` and ``devices`` as their JSON files do."""

    artifact: Artifact
    row: Row
    decision: Decision
    data: dict[str, Any]
    chain: tuple[Hop, ...]
    shown: tuple[Shown, ...]
    plots: dict[str, Markup]

    @property
    def name(self) -> str:
        row = self.row
        return f"{row.runtime} {row.backend} {row.recipe} {row.resolution}"

    @property
    def anchor(self) -> str:
        return f"file-{self.row.artifact_sha256[:12]}-{self.row.resolution}"

    @property
    def budget(self) -> tuple[tuple[Bar, str, str], ...]:
        """The bars of quality, size and placement, each with the path of its figure and how to
        write it; hops have their own."""
        kept = self.at("checks.details.quality.bars") or ()
        found = [(Bar(**bar), f"checks.figures.{bar['figure']}") for bar in kept]
        if self.row.graph_gap_db is not None:
            found.append((GRAPH_GAP_BAR, "row.graph_gap_db"))
        for check, bar in (("size", SIZE_BAR), ("delegation", DELEGATION_BAR)):
            if check in self.row.checks:
                found.append((bar, f"row.{bar.figure}"))
        return tuple((bar, path, PATTERNS.get(bar.figure, ".3f")) for bar, path in found)

    @property
    def weakest(self) -> Hop | None:
        """The hop with the lowest PSNR: where the file loses most."""
        ran = [hop for hop in self.chain if hop.figures]
        return min(ran, key=lambda hop: self.at(f"{hop.figures}.psnr_db")) if ran else None

    def at(self, path: str) -> Any:
        """What stands at a dotted ``path`` of ``data``; None where there is nothing."""
        found: Any = self.data
        for part in path.split("."):
            if isinstance(found, list | tuple):
                found = found[int(part)] if int(part) < len(found) else None
            else:
                found = found.get(part) if isinstance(found, dict) else None
        return found

    def number(self, path: str, pattern: str = ".2f", unit: str = "", scale: float = 1) -> Markup:
        """The number at ``path``, with the exact value for machines; ``not run`` where it is
        None."""
        return number(path, self.at(path), pattern, unit, scale)


def number(
    path: str, value: float | None, pattern: str = ".2f", unit: str = "", scale: float = 1
) -> Markup:
    """``value`` as the page shows it: ``<data>`` with its source and its exact value."""
    if value is None:
        return Markup('<span class="none" data-path="{}">not run</span>').format(path)
    shown = "z" + pattern if pattern[-1] in "feg%" else pattern
    text = format(value * scale, shown).replace("e-0", "e-").replace("-", "\N{MINUS SIGN}")
    text = "0" if value == 0 and pattern[-1] == "e" else text
    space = "" if unit in ("", "\N{MULTIPLICATION SIGN}") else "\N{NO-BREAK SPACE}"
    return Markup('<data data-path="{}" value="{!r}">{}{}{}</data>').format(
        path, value, text, space, unit
    )


def latencies_of(
    sha256: str, comparisons: Iterable[Comparison], devices: Iterable[DeviceLatency]
) -> list[tuple[str, LatencyResult]]:
    """Every timing of a file and where it ran: this machine's full protocol first."""
    hosts = [
        (f"this machine, {result.protocol} protocol", result)
        for comparison in comparisons
        for key, result in comparison.results.items()
        if key == sha256
    ]
    hosts.sort(key=lambda pair: pair[1].protocol != "full")
    phones = [
        (f"{one.device.name}, {one.units}", one.latency)
        for one in devices
        if one.artifact_sha256 == sha256
    ]
    return hosts + phones


def chain_of(
    artifact: Artifact, checks: Checks | None, row: Row, data: dict[str, Any]
) -> tuple[Hop, ...]:
    """Every hop from the trained network to a phone, those that were not run included."""
    return (*_judged(artifact, checks, row), *_on_devices(artifact, row, data))


def _judged(artifact: Artifact, checks: Checks | None, row: Row) -> list[Hop]:
    hops = checks.details.get("hops", [])[:-1] if checks else []
    if not hops:
        return _unjudged(artifact, row)
    ran = "reference evaluator" if row.device_kind == "evaluator" else "host runtime"
    places = ["fused", *(["quantized graph"] if len(hops) > 2 else []), ran]
    return [
        Hop(
            place=place,
            reference=hop["reference"],
            candidate=hop["candidate"],
            verdict=Verdict.from_json(hop["verdict"]),
            figures=f"checks.details.hops.{index}.figures",
            bars=tuple(Bar(**bar) for bar in hop.get("bars", ())),
        )
        for index, (place, hop) in enumerate(zip(places, hops, strict=True))
    ]


def _unjudged(artifact: Artifact, row: Row) -> list[Hop]:
    manifest = artifact.manifest
    graph = [f"{row.recipe} graph"] if manifest.calibration_sha256 else []
    names = ["torch", "fused", *graph, manifest.runtime]
    places = ["fused", *(["quantized graph"] if graph else []), "host runtime"]
    why = not_run(row.reason or "not judged yet")
    return [Hop(place, names[i], names[i + 1], why, None, ()) for i, place in enumerate(places)]


def _on_devices(artifact: Artifact, row: Row, data: dict[str, Any]) -> list[Hop]:
    """From this machine's output to those of devices, emulated ones first."""
    hops = []
    for kind, command in (
        ("emulator", "make bench-android DEVICE=emulator"),
        ("device", "make bench-android DEVICE=SERIAL"),
    ):
        found = [
            Hop(
                place=kind,
                reference=f"{row.runtime} here",
                candidate=str(one["device"]["name"]),
                verdict=Verdict.from_json(one["verdict"]),
                figures=f"devices.{index}.figures" if one["figures"] else None,
                bars=tuple(Bar(**bar) for bar in one["bars"]),
            )
            for index, one in enumerate(data["devices"])
            if one["device"]["kind"] == kind
        ]
        hops += found or [_not_on(kind, command, artifact, row)]
    return hops


def _not_on(kind: str, command: str, artifact: Artifact, row: Row) -> Hop:
    android = artifact.manifest.platform == "android"
    how = command if android else "outputs of iPhones are not compared"
    if not android and kind == "emulator":
        how = "there is none for iOS"
    return Hop(kind, f"{row.runtime} here", kind, not_run(how), None, ())


def devices_json(artifact: Artifact, found: Sequence[DeviceParity]) -> list[dict[str, Any]]:
    """Comparisons on devices with their bars and verdicts, as the page looks them up."""
    bars = [asdict(bar) for bar in bars_of(artifact.manifest)]
    return [
        {**asdict(one), "bars": bars, "verdict": one.verdict(artifact.manifest).to_json()}
        for one in found
        if one.artifact_sha256 == artifact.manifest.artifact_sha256
    ]


def bar_text(bar: Bar) -> str:
    """A budget without its figure's name, such as ``>= 45 dB``."""
    sign = {"at least": "\N{GREATER-THAN OR EQUAL TO}", "at most": "\N{LESS-THAN OR EQUAL TO}"}
    number = f"{bar.limit:.3g}".replace("e-0", "e-").replace("-", "\N{MINUS SIGN}")
    return f"{sign[bar.sense]} {number}{f' {bar.unit}' if bar.unit else ''}"


def figure_name(figure: str) -> str:
    """What the page calls a bar's figure."""
    return FIGURES.get(figure, figure)


FIGURES = {
    "psnr_db": "mean PSNR",
    "worst_psnr_db": "worst PSNR",
    "max_abs": "largest difference",
    "worst_shift": "mean difference",
    "changed_share": "changed pixels",
    "drop_db": "mean drop",
    "gain_kept": "gain kept",
    "graph_gap_db": "distance from its graph's PSNR",
    "size_ratio": "size over fp32",
    "undelegated_convolutions": "convolutions no delegate took",
}

PATTERNS = {
    "psnr_db": ".1f",
    "gain_kept": ".1%",
    "size_ratio": ".2f",
    "undelegated_convolutions": "d",
}
