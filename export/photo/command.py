"""What ``python -m export.photo`` does: check every argument, choose tiles, run, tell."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dfnet.artifact import read_artifact
from dfnet.console import EXIT_MISSED_BAR, EXIT_OK, Progress, results_console
from dfnet.errors import ArtifactError
from export.photo.choice import choose
from export.photo.memory import return_freed_memory
from export.photo.opening import open_runner
from export.photo.process import PhotoResult, refocus_photo
from export.photo.source import find_capture
from export.sdk_log import temporary_sdk_log


@dataclass(frozen=True)
class Options:
    """The command line as given; see ``python -m export.photo --help``."""

    artifacts: tuple[Path, ...]
    capture: Path
    target: str | None
    output: Path
    memory_mb: int | None
    threads: int
    as_json: bool


def run(options: Options) -> int:
    """Refocuses the photo; 1 when it took more memory than the budget.

    Raises:
        DFNetError: an option is wrong, or the run fails.
    """
    if options.output.suffix.lower() != ".png":
        raise ArtifactError(f"Output {options.output}: needed a name that ends in .png. Rename it.")
    return_freed_memory()
    artifacts = [view for folder in options.artifacts for view in read_artifact(folder).views]
    capture = find_capture(options.capture, options.target)
    choice = choose(artifacts, capture.size, memory_mb=options.memory_mb)
    opener = partial(open_runner, choice.artifact, threads=options.threads)
    with Progress() as progress, temporary_sdk_log():
        progress.say(str(choice).capitalize())
        progress.expect(len(choice.plan.tiles) + 2)
        result = refocus_photo(choice, capture, options.output, opener, progress)
    _tell(result, options)
    within = options.memory_mb is None or result.peak_mb <= options.memory_mb
    return EXIT_OK if within else EXIT_MISSED_BAR


def _tell(result: PhotoResult, options: Options) -> None:
    console = results_console()
    if options.as_json:
        console.print_json(json.dumps({**result.to_json(), "memory_mb": options.memory_mb}))
        return
    seconds = result.decode_s + result.load_s + result.tiles_s + result.encode_s
    budget = "" if options.memory_mb is None else f" of {options.memory_mb}"
    console.print(
        f"{result.output}: {result.photo} from {result.tiles} tiles of {result.tile}, halo ratio "
        f"{result.halo_ratio:.3f}, {seconds:.1f} s, peak memory {result.peak_mb:.0f}{budget} MB",
        markup=False,
    )
