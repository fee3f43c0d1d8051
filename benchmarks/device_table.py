"""The table of files on devices."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.device_parity import DeviceParity, InsnProxy, proxy_ratio, spread
from benchmarks.rows import float_sibling
from benchmarks.verdict import Outcome
from dfnet.artifact import Artifact

_STYLES = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.NOT_RUN: "yellow"}
_HEADINGS = ("device", "runtime", "recipe", "resolution", "verdict")
_NUMBERS = ("levels off", "pixels off", "proxy ms", "of fp32", "spread")
_NOTE = (
    "Levels off: the largest difference from this machine's output, in 255ths; pixels off: the "
    "share of those that differ by over 1e-5. Proxy ms count instructions on an emulated core; "
    "they are no latency."
)

Found = tuple[Artifact, DeviceParity]


def print_devices(found: Sequence[Found], console: Console) -> None:
    """A line per file and device, then why a file did not pass, then what columns mean."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in (*_HEADINGS, *_NUMBERS):
        table.add_column(heading, justify="left" if heading in _HEADINGS else "right")
    for artifact, one in found:
        table.add_row(*_cells(artifact, one, _base(artifact, one, found)))
    console.print(table)
    for artifact, one in found:
        verdict = one.verdict(artifact.manifest)
        if not verdict.is_passed:
            console.print(f"{artifact.id} on {one.device.name}: {verdict}", markup=False)
    console.print(_NOTE, markup=False)


def _base(artifact: Artifact, one: DeviceParity, found: Sequence[Found]) -> InsnProxy | None:
    """The proxy of the fp32 file of the same kind on the same device."""
    there = [(other, its) for other, its in found if its.device == one.device]
    sibling = float_sibling(artifact, [other for other, _ in there])
    return next((its.insn_proxy for other, its in there if other is sibling), None)


def _cells(artifact: Artifact, one: DeviceParity, base: InsnProxy | None) -> list[str]:
    manifest, verdict = artifact.manifest, one.verdict(artifact.manifest)
    style = _STYLES[verdict.outcome]
    proxy, figures = one.insn_proxy, one.figures
    ratio = proxy_ratio(proxy, base)
    return [
        escape(one.device.name),
        f"{manifest.runtime} {manifest.backend}",
        str(manifest.recipe["name"]),
        str(manifest.resolution),
        f"[{style}]{verdict.outcome}[/{style}]",
        "-" if figures is None else f"{figures.max_abs * 255:.2g}",
        "-" if figures is None else f"{figures.changed_share:.2%}",
        "-" if proxy is None else f"{proxy.headline_ms:.3f}",
        "-" if ratio is None else f"{ratio:.3f}",
        "-" if proxy is None or len(proxy.boots_ms) < 2 else f"{spread(proxy):.2%}",
    ]
