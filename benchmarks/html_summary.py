"""What a report page says of all its files together."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from benchmarks import html_plots
from benchmarks.html_file import FilePage
from benchmarks.shipping import Recommendation, Ship


def headline(ship: Ship, files: Sequence[FilePage]) -> str:
    """The verdict on all files, in a few words."""
    count = sum(file.decision.ship is ship for file in files)
    what = f"{count} of {len(files)} {'file' if len(files) == 1 else 'files'}"
    if ship is Ship.SHIP:
        return f"Ship: {what} passed on this machine"
    return f"{str(ship).capitalize()}: {what}"


def summary(files: Sequence[FilePage]) -> list[str]:
    """Why not, file by file; then what was measured nowhere."""
    lines = [
        f"{file.row.runtime} {file.row.recipe} {file.row.resolution}: {file.decision.ship} "
        f"({'; '.join(file.decision.reasons)})."
        for file in files
        if file.decision.reasons
    ]
    common = [
        line
        for line in (files[0].decision.open if files else ())
        if all(line in file.decision.open for file in files)
    ]
    return [*lines, *([f"For all files: {' '.join(common)}"] if common else [])]


def opened(files: Sequence[FilePage], taken: Sequence[Recommendation]) -> str | None:
    """The file whose section is open at first: one that must not ship, else the one to take."""
    order = [
        file.row
        for ship in (Ship.NO, Ship.UNVERIFIED)
        for file in files
        if file.decision.ship is ship
    ]
    order += [one.row for one in taken if one.row is not None]
    return order[0].artifact if order else None


def drops(files: Sequence[FilePage]) -> Markup | None:
    """The drop of every capture and target; None where nothing was judged."""
    found, names = [], _names(files)
    for file in files:
        if tiles := file.at("checks.details.quality.tiles"):
            values = [tile["float_db"] - tile["candidate_db"] for tile in tiles]
            found.append((names[file.anchor], values, _limit(file)))
    return html_plots.drops(found) if found else None


def _limit(file: FilePage) -> float | None:
    limits = [bar.limit for bar, _, _ in file.budget if bar.figure == "drop_db"]
    return limits[0] if limits else None


def ratios(files: Sequence[FilePage]) -> Markup | None:
    """Times over the fp32 file's median of the same run; None where no two were timed."""
    found, names = [], _names(files)
    for file in files:
        latency = next(iter(file.at("latencies")), None)
        if latency and latency["latency_ratio"] and latency["statistics"]:
            ratio, figures = latency["latency_ratio"], latency["statistics"]
            base = figures["median_ms"] / ratio
            low, high = figures["p5_ms"] / base, figures["p95_ms"] / base
            found.append((names[file.anchor], low, ratio, high))
    return html_plots.ratios(found) if found else None


def _names(files: Sequence[FilePage]) -> dict[str, str]:
    """What plots call the files: without the resolution where all share one."""
    several = len({file.row.resolution for file in files}) > 1
    return {
        file.anchor: f"{file.row.runtime} {file.row.recipe}"
        + (f" {file.row.resolution}" if several else "")
        for file in files
    }
