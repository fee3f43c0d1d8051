"""python -m dfnet refocus | demo | train | stereo.

Only options live here, so that --help answers at once; the modules of each command do the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dfnet.console import debug_option, examples, run_command

_PATH = click.Path(path_type=Path)
_PASSED_ON: dict[str, Any] = {
    "context_settings": {"ignore_unknown_options": True},
    "add_help_option": False,
}


@click.group("dfnet")
def main() -> None:
    """Refocus captures with exported files; train the network; derive the stereo captures."""


@main.command(
    epilog=examples(
        "python -m dfnet refocus --artifact DIR --capture DIR --focus-at 300,200 --output out.png",
    )
)
@click.option(
    "--artifact",
    type=_PATH,
    required=True,
    help="An exported file, or its folder in artifacts/<platform>/.",
)
@click.option(
    "--capture",
    type=_PATH,
    required=True,
    help="A capture's folder, such as data/captures/held_out/held-out-300.",
)
@click.option("--target", help="all-in-focus, or a target stored with the capture.")
@click.option("--focus-at", metavar="X,Y", help="Focus on what is at this pixel.")
@click.option("--f-stop", type=float, help="The aperture: 1.4 blurs more, 8 less.")
@click.option("--tilt-shift", metavar="Y,HALF", help="Sharp around row Y, to HALF pixels from it.")
@click.option(
    "--captured-f-stop",
    type=float,
    default=1.85,
    show_default=True,
    help="The aperture that the capture was taken with.",
)
@click.option("--output", type=_PATH, required=True, help="The .png or .jpg to write.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@debug_option
def refocus(focus_at: str | None, tilt_shift: str | None, **options: Any) -> int:
    """Refocus a capture with an exported file.

    --focus-at and --tilt-shift go with --f-stop. A capture smaller than the file's frame is
    mirrored around; nothing is scaled.

    Example: python -m dfnet refocus --artifact artifacts/android/ID --capture
    data/captures/held_out/held-out-300 --focus-at 128,90 --f-stop 1.4 --output out.png
    """
    from dfnet.refocus_command import Options
    from dfnet.refocus_command import refocus as work
    from dfnet.wish import Wish

    wish = Wish(
        target=options.pop("target"),
        focus_at=_pair(focus_at, "--focus-at X,Y", int),
        f_stop=options.pop("f_stop"),
        tilt_shift=_pair(tilt_shift, "--tilt-shift Y,HALF", float),
        captured_f_stop=options.pop("captured_f_stop"),
    )
    return work(Options(wish=wish, **options))


@main.command(
    epilog=examples(
        "python -m dfnet demo",
    )
)
@click.option(
    "--artifact",
    type=_PATH,
    required=True,
    help="An exported file, or its folder in artifacts/<platform>/.",
)
@click.option("--capture", type=_PATH, help="A capture's folder. Default: a rendered scene.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: a free one.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@debug_option
def demo(**options: Any) -> int:
    """Click a subject to refocus, in a page that an exported file computes. Local only."""
    from dfnet.demo_command import Options
    from dfnet.demo_command import demo as work

    return work(Options(**options))


@main.command(**_PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> int:
    """Train the network; as python -m dfnet.train."""
    from dfnet.train import main as command

    return command.main(list(arguments), "dfnet train", standalone_mode=False) or 0


@main.command(**_PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def stereo(arguments: tuple[str, ...]) -> int:
    """Derive the captures of measured depth; as python -m dfnet.stereo."""
    from dfnet.stereo import main as command

    return command.main(list(arguments), "dfnet stereo", standalone_mode=False) or 0


def _pair(text: str | None, option: str, kind: type[Any]) -> tuple[Any, Any] | None:
    if text is None:
        return None
    try:
        first, second = map(kind, text.split(","))
    except ValueError as error:
        raise click.UsageError(
            f"{option}: got {text!r}, needed two numbers with a comma between them."
        ) from error
    return first, second


if __name__ == "__main__":
    run_command(main)
