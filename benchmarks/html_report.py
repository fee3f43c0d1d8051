"""The report page: ``<artifacts>/<platform>/report.html``, one file that needs no network.

Rendered from manifests and results alone; no model is run. Pictures are those that were kept when
the files were judged (``benchmarks.exhibits``); one that is missing or altered is said to be.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks import html_plots
from benchmarks.device_parity import DeviceParity, all_device_parities
from benchmarks.device_results import DeviceLatency, all_device_latencies
from benchmarks.exhibits import PICTURES, TILE_PX, Exhibit, exhibits_of, pictures_folder
from benchmarks.html_file import (
    PLACES,
    FilePage,
    bar_text,
    chain_of,
    devices_json,
    figure_name,
    latencies_of,
)
from benchmarks.html_pictures import BUDGET, HEATS, Album, Shown, gradient
from benchmarks.html_studies import studies_of
from benchmarks.html_summary import drops, headline, opened, ratios, summary
from benchmarks.recommendation import recommendations
from benchmarks.report import latency_reasons
from benchmarks.results import Checks, Comparison, all_checks, all_comparisons, write_text
from benchmarks.row import Row
from benchmarks.rows import build_rows
from benchmarks.shipping import decide, overall, recommend
from dfnet.artifact import Artifact

_TEMPLATES = Path(__file__).parent / "templates"
_NAMES = {"ios": "iOS", "android": "Android"}


@dataclass(frozen=True)
class Results:
    """Everything measured that a page is rendered from."""

    folder: Path
    artifacts: tuple[Artifact, ...]
    checks: tuple[Checks, ...]
    comparisons: tuple[Comparison, ...]
    latencies: tuple[DeviceLatency, ...]
    parities: tuple[DeviceParity, ...]

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        measured = (self.checks, self.comparisons, self.latencies, self.parities)
        return tuple(build_rows(self.artifacts, *measured))

    def checks_of(self, artifact: Artifact) -> Checks | None:
        """What judged an artifact on this machine; None when nothing did."""
        return next((one for one in self.checks if one.is_of(artifact.manifest)), None)


def read_results(output: Path, artifacts: Sequence[Artifact]) -> Results:
    """All results in ``output``, for ``artifacts``."""
    folder = output / "results"
    return Results(
        folder,
        tuple(artifacts),
        tuple(all_checks(folder)),
        tuple(all_comparisons(folder)),
        tuple(all_device_latencies(folder)),
        tuple(all_device_parities(folder)),
    )


def write_pages(output: Path, artifacts: Sequence[Artifact]) -> tuple[Path, ...]:
    """Writes a page for every platform of ``artifacts``; gives their paths.

    Raises:
        ArtifactError: a folder cannot be written.
    """
    results = read_results(output, artifacts)
    platforms = dict.fromkeys(artifact.manifest.platform for artifact in artifacts)
    return tuple(_write(output, platform, results) for platform in platforms)


def _write(output: Path, platform: str, results: Results) -> Path:
    path = output / platform / "report.html"
    write_text(path, render(output, platform, results))
    return path


def render(output: Path, platform: str, results: Results, *, budget: int = BUDGET) -> str:
    """The page of one platform."""
    artifacts = [a for a in results.artifacts if a.manifest.platform == platform]
    album = Album(budget)
    shown = _exhibits(artifacts, results, album)
    files = [_file(artifact, results, shown[artifact.id]) for artifact in artifacts]
    decided = [(file.row, file.decision) for file in files]
    taken = recommend(decided)
    rows = [row for row in results.rows if row.platform == platform]
    ship = overall(decision for _, decision in decided)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            platform=platform,
            platform_name=_NAMES.get(platform, platform),
            ship=str(ship),
            headline=headline(ship, files),
            summary=summary(files),
            recommendations=taken,
            files=files,
            files_by_row={file.row.artifact: file for file in files},
            opened=opened(files, taken),
            places=PLACES,
            several_resolutions=len({file.row.resolution for file in files}) > 1,
            drops=drops(files),
            ratios=ratios(files),
            latency_reasons=latency_reasons(rows),
            advice=recommendations(rows),
            studies=studies_of(output, artifacts),
            pictures=album.pictures,
            picture_count=len(PICTURES) + len(HEATS),
            heats=HEATS,
            gradient=gradient(),
            tile_px=TILE_PX,
            css=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
            js=Markup((_TEMPLATES / "report.js").read_text(encoding="utf-8")),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bar_text": bar_text,
        "figure_name": figure_name,
        "tile_place": tile_place,
        "tile_zoom": tile_zoom,
        "compact": lambda value: json.dumps(value, sort_keys=True),
    }
    return environment


def _exhibits(
    artifacts: Sequence[Artifact], results: Results, album: Album
) -> dict[str, tuple[Shown, ...]]:
    """What is shown of every file; where not all fits, all files' first exhibits come first."""
    kept = {a.id: exhibits_of(found.details) for a in artifacts if (found := results.checks_of(a))}
    folders = {a.id: pictures_folder(results.folder, a.manifest) for a in artifacts}
    shown: dict[str, tuple[Shown, ...]] = {artifact.id: () for artifact in artifacts}
    for rank in zip_longest(*([(id_, one) for one in all_] for id_, all_ in kept.items())):
        for id_, exhibit in filter(None, rank):
            shown[id_] += (album.add(folders[id_], exhibit),)
    return shown


def _file(artifact: Artifact, results: Results, shown: tuple[Shown, ...]) -> FilePage:
    sha256 = artifact.manifest.artifact_sha256
    rows = [row for row in results.rows if _is_of(row, artifact)]
    row = next(row for row in rows if row.runner is None)
    checks = results.checks_of(artifact)
    latencies = latencies_of(sha256, results.comparisons, results.latencies)
    data: dict[str, Any] = {
        "row": row.to_json(),
        "manifest": json.loads(json.dumps(artifact.manifest.to_json())),
        "checks": json.loads(json.dumps(checks.to_json())) if checks else None,
        "latencies": [{"where": where, **result.to_json()} for where, result in latencies],
        "devices": devices_json(artifact, results.parities),
    }
    plots = {
        f"latencies.{index}": html_plots.samples(
            f"{row.runtime} {row.recipe} {row.resolution}, {where}",
            [repeat.samples_ms for repeat in result.repeats if repeat.samples_ms],
            result.statistics(),
        )
        for index, (where, result) in enumerate(latencies)
        if result.samples_ms
    }
    chain = chain_of(artifact, checks, row, data)
    return FilePage(artifact, row, decide(rows), data, chain, shown, plots)


def _is_of(row: Row, artifact: Artifact) -> bool:
    return (row.platform, row.artifact) == (artifact.manifest.platform, artifact.id)


def tile_place(exhibit: Exhibit) -> str:
    """CSS for a mark on a picture, where its worst square is."""
    return (
        f"left: {100 * exhibit.tile_x / exhibit.width:.3f}%; "
        f"top: {100 * exhibit.tile_y / exhibit.height:.3f}%; "
        f"width: {100 * min(TILE_PX, exhibit.width) / exhibit.width:.3f}%; "
        f"height: {100 * min(TILE_PX, exhibit.height) / exhibit.height:.3f}%"
    )


def tile_zoom(exhibit: Exhibit) -> str:
    """CSS for a picture of which a frame shows the worst square alone."""
    wide, high = min(TILE_PX, exhibit.width), min(TILE_PX, exhibit.height)
    return (
        f"width: {100 * exhibit.width / wide:.3f}%; height: {100 * exhibit.height / high:.3f}%; "
        f"left: {-100 * exhibit.tile_x / wide:.3f}%; top: {-100 * exhibit.tile_y / high:.3f}%"
    )
