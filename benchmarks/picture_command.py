"""What ``python -m benchmarks picture`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import Options, prepare
from benchmarks.picture import draw
from dfnet.captureset import open_captures
from dfnet.console import EXIT_OK
from dfnet.errors import UnsupportedError
from export.sdk_log import sdk_log


def draw_picture(options: Options, show: Sequence[str], path: Path) -> int:
    """Draws the first chosen artifact's results on ``show`` (``capture:target``)."""
    artifact = prepare(options)[0]
    wanted = [(capture, target) for capture, _, target in (s.partition(":") for s in show)]
    if not wanted:
        raise UnsupportedError("Picture: got no --show, needed at least one CAPTURE:TARGET.")
    captures = tuple(open_captures(options.captures))
    with sdk_log(options.log):
        draw(artifact, captures, wanted, threads=options.thread_count, path=path)
    return EXIT_OK
