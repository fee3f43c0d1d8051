"""What ``python -m benchmarks photo`` does: measure, write the results, judge them."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.photo import by_recipe, measure_memory, measure_times
from benchmarks.photo_table import missed_bars, render_photos
from benchmarks.seams import Seams, measure_seams, middle
from dfnet.artifact import Artifact, read_artifact
from dfnet.console import EXIT_MISSED_BAR, EXIT_OK, Progress, results_console
from dfnet.errors import ArtifactError, UnsupportedError
from export.photo.choice import choose
from export.photo.memory import return_freed_memory
from export.photo.source import DecodedCapture, PhotoCapture, find_capture
from export.sdk_log import temporary_sdk_log


@dataclass(frozen=True)
class Options:
    """The command line as given; see ``python -m benchmarks photo --help``."""

    artifacts: tuple[Path, ...]
    seam_wholes: tuple[Path, ...]
    seam_tiles: tuple[Path, ...]
    capture: Path
    target: str | None
    results: Path
    threads: int
    runs: int


def run(options: Options) -> int:
    """Measures every artifact and writes ``options.results``; 1 when a bar was missed.

    Raises:
        DFNetError: an option is wrong, or a run fails.
    """
    artifacts = by_recipe([read_artifact(folder) for folder in options.artifacts])
    wholes = by_recipe([read_artifact(folder) for folder in options.seam_wholes])
    tiles = by_recipe([read_artifact(folder) for folder in options.seam_tiles])
    if not set(wholes) == set(tiles) <= set(artifacts):
        raise UnsupportedError(
            f"Seams: got --seam-whole of {', '.join(wholes) or 'nothing'} and --seam-tile of "
            f"{', '.join(tiles) or 'nothing'}, needed the same recipes, among "
            f"{', '.join(artifacts)}."
        )
    capture = find_capture(options.capture, options.target)
    return_freed_memory()  # as export.photo does: it has its price in time
    rows = []
    with Progress() as progress, temporary_sdk_log():
        for recipe, artifact in artifacts.items():
            row = _measure(artifact, capture, options, progress)
            if recipe in wholes:
                with progress.step(f"Seams of {recipe}"):
                    seams = _seams(wholes[recipe], tiles[recipe], capture, options.threads)
                row["seams"] = asdict(seams)
            rows.append(row)
    _write(options.results, rows)
    results_console().print(render_photos(rows), markup=False)
    return EXIT_MISSED_BAR if any(map(missed_bars, rows)) else EXIT_OK


def _measure(
    artifact: Artifact, capture: PhotoCapture, options: Options, progress: Progress
) -> dict[str, Any]:
    choice = choose([artifact], capture.size, memory_mb=None)
    with progress.step(f"Memory of {artifact.id}", counts=False):
        own = measure_memory(artifact, options.capture, options.target, threads=options.threads)
    times = measure_times(
        choice, capture, threads=options.threads, runs=options.runs, progress=progress
    )
    manifest = artifact.manifest
    return {
        "runtime": manifest.runtime,
        "backend": manifest.backend,
        "recipe": manifest.recipe["name"],
        "precision": manifest.precision,
        "artifact_sha256": manifest.artifact_sha256,
        "tool_versions": manifest.tool_versions,
        "photo": own.photo,
        "tile": own.tile,
        "tiles": own.tiles,
        "halo_ratio": own.halo_ratio,
        "expected_mb": own.expected_mb,
        "peak_mb": own.peak_mb,
        "threads": options.threads,
        "tiles_s": times.tiles_s,
        "ideal_s": times.ideal_s,
        "run_ratio": times.ratio,
        "run_validity": times.latency.validity,
        "latency": times.latency.to_json(),
        "seams": None,
    }


def _seams(whole: Artifact, tiled: Artifact, capture: PhotoCapture, threads: int) -> Seams:
    frame = whole.manifest.resolution
    with tempfile.TemporaryDirectory(prefix="dfnet-seams-") as folder:
        decoded = DecodedCapture(capture, Path(folder), frame)
        window = decoded.feed(*middle(capture.size, frame))
        return measure_seams(whole, tiled, dict(window), threads=threads)


def _write(results: Path, rows: list[dict[str, Any]]) -> None:
    part = results.with_suffix(".part")
    try:
        part.write_text(json.dumps(rows, indent=1) + "\n")
        os.replace(part, results)
    except OSError as error:
        raise ArtifactError(
            f"Results {results}: cannot be written ({error.strerror}). Choose another --results."
        ) from error
