"""Derives the held-out captures of measured depth: ``python -m dfnet.stereo`` (make setup).

They are rendered from a stereo pair inside a pinned wheel (see dfnet.stereo_scene) and must match
the hashes in the committed manifest.
"""

from __future__ import annotations

from pathlib import Path

import click

from dfnet.captureset import open_captures, write_capture_files
from dfnet.console import Progress, debug_option, run_command


def derive_missing(root: Path) -> int:
    """Renders and verifies the derived captures absent from ``root``; returns how many.

    Raises:
        CaptureError: a rendered capture is not the one the manifest lists.
    """
    missing = open_captures(root).missing_derived()
    if not missing:
        return 0
    # Rendering needs torch and scikit-image; most runs have nothing to render.
    from dfnet.stereo_scene import stereo_capture

    with Progress(total=len(missing)) as progress:
        for capture_id in missing:
            with progress.step(f"deriving {capture_id} from the stereo pair"):
                write_capture_files(root, stereo_capture(int(capture_id.rpartition("-")[2])))
    return len(missing)


@click.command(
    "dfnet.stereo",
    help="Derive the held-out captures of measured depth from the pinned wheel.",
)
@click.option(
    "--captures",
    "root",
    type=click.Path(path_type=Path),
    default=Path("data/captures/held_out"),
    show_default=True,
)
@debug_option
def main(root: Path) -> None:
    """Derives what is missing; says nothing when all is there."""
    derive_missing(root)


if __name__ == "__main__":
    run_command(main)
