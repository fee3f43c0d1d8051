"""python -m benchmarks verify | parity | latency | report ...: judges what was exported.

Only options live here, so that --help answers at once; ``benchmarks.command`` does the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.device_protocol import UNITS, Unit
from benchmarks.options import (
    DEVICE_OPTIONS,
    PATH,
    baselines_option,
    captures_option,
    choice_options,
    device_files_options,
    device_options,
    files_options,
    json_option,
    junit_option,
    output_option,
    platform_option,
    resolution_option,
)
from dfnet.console import debug_option, examples, network_options, run_command
from export.variants import PLATFORMS


@click.group("benchmarks")
def main() -> None:
    """Run exported files on this machine, judge them, and report."""


@main.command(
    epilog=examples(
        "python -m benchmarks verify --platform ios",
        "python -m benchmarks verify --platform android --recipe int8 --resolution hd",
    )
)
@click.option("--platform", required=True, help=f"One of {', '.join(PLATFORMS)}.")
@choice_options
@captures_option
@network_options
@debug_option
def verify(**options: Any) -> int:
    """Parity, quality and a quick latency of a platform's files, after exporting them.

    What has not changed since the last time is reused. Exits 1 when a bar is missed; files that
    cannot run here do not fail, but are counted as BUILT, NOT VERIFIED.
    """
    from benchmarks.command import Options, verify

    return verify(Options(**options))


@main.command(
    epilog=examples(
        "python -m benchmarks parity --platform android",
        "python -m benchmarks parity --captures DIR --junit parity.xml",
    )
)
@platform_option
@choice_options
@captures_option
@network_options
@junit_option
@debug_option
def parity(junit: Path | None, **options: Any) -> int:
    """Parity and quality. Exits 1 when a bar is missed, or any chosen file could not run."""
    from benchmarks.command import Options, parity

    return parity(Options(**options), junit)


@main.command(
    epilog=examples(
        "python -m benchmarks latency --platform android --runtime litert",
        "python -m benchmarks latency --protocol quick",
    )
)
@platform_option
@choice_options
@captures_option
@click.option(
    "--protocol",
    type=click.Choice(["full", "quick"]),
    default="full",
    show_default=True,
    help="full: 3 cold repeats of 50 runs. quick: 3 rounds in one process.",
)
@debug_option
def latency(protocol: str, **options: Any) -> int:
    """Host latency of int8 against fp32, interleaved. Never a phone's latency."""
    from benchmarks.command import Options, latency

    return latency(Options(**options), protocol)


@main.command(
    epilog=examples(
        "python -m benchmarks report",
        "python -m benchmarks report --platform ios --json",
    )
)
@platform_option
@resolution_option
@output_option
@json_option
@debug_option
def report(platform: str | None, resolutions: tuple[str, ...], output: Path, as_json: bool) -> int:
    """Print what has been measured, and write OUTPUT/<platform>/report.html. Runs no model.

    The page needs no network and shows what a file does to pictures; OUTPUT/results/report.md has
    the same numbers as text.
    """
    from benchmarks.command import report

    return report(platform, output, as_json=as_json, resolutions=resolutions)


@main.command(
    epilog=examples(
        "python -m benchmarks job --platform ios --recipe fp16 jobs",
    )
)
@platform_option
@files_options
@captures_option
@click.option("--threads", type=click.IntRange(min=1), help="Default: what the runtime chooses.")
@click.option(
    "--accelerator",
    multiple=True,
    type=click.Choice(UNITS),
    help="Only these units; may be repeated. Default: what the file's backend can use.",
)
@click.option("--device-name", help="What reports call the device. Default: what it calls itself.")
@click.argument("folder", type=PATH)
@debug_option
def job(
    folder: Path, accelerator: tuple[Unit, ...], device_name: str | None, **options: Any
) -> int:
    """Write a job per file into FOLDER, for a runner on a device.

    See docs/device-protocol.md.
    """
    from benchmarks.command import Options
    from benchmarks.device_job import JobOptions
    from benchmarks.job_command import write

    job = JobOptions(accelerator, options["threads"], device_name)
    return write(Options(**options, as_json=False, verbose=False), folder, job)


@main.command(
    "import",
    epilog=examples(
        "python -m benchmarks import jobs/*/result.json",
    ),
)
@click.argument("results", type=PATH, nargs=-1, required=True, metavar="RESULT.json...")
@output_option
@debug_option
def import_(results: tuple[Path, ...], output: Path) -> int:
    """Take latencies that runners measured on devices; all files are checked first."""
    from benchmarks.import_command import import_results

    return import_results(results, output)


@main.command(
    epilog=examples(
        "python -m benchmarks device --device emulator --runtime litert --resolution 64x64",
        "python -m benchmarks device --device SERIAL",
    )
)
@device_files_options
@captures_option
@device_options
@debug_option
def device(**options: Any) -> int:
    """Run Android files on devices through adb, and compare with this machine.

    Phones are timed as well; an emulated device has no latency, it counts instructions instead.
    Exits 1 when an output is not what it must be.
    """
    from benchmarks.command import Options
    from benchmarks.device_command import DeviceOptions, run

    own = {name: options.pop(name) for name in DEVICE_OPTIONS}
    return run(Options(platform="android", device=None, **options), DeviceOptions(**own))


@main.command(
    epilog=examples(
        "python -m benchmarks picture --platform android --runtime litert --recipe int8",
    )
)
@platform_option
@choice_options
@captures_option
@click.option(
    "--show",
    multiple=True,
    metavar="CAPTURE:TARGET",
    help="A row of the picture, such as motorcycle-1:all-in-focus; may be repeated.",
)
@click.option("--picture", type=PATH, default=Path("artifacts/picture.png"), show_default=True)
@debug_option
def picture(show: tuple[str, ...], picture: Path, **options: Any) -> int:
    """Draw wide, ultra-wide, an artifact's result, and the truth."""
    from benchmarks.command import Options
    from benchmarks.picture_command import draw_picture

    return draw_picture(Options(**options), show, picture)


@main.command(
    epilog=examples(
        "python -m benchmarks photo --capture artifacts/photo-capture",
    )
)
@click.option(
    "--artifact",
    "artifacts",
    type=PATH,
    multiple=True,
    required=True,
    help="Folder of a file to run over the photo; one per recipe.",
)
@click.option(
    "--seam-whole",
    "seam_wholes",
    type=PATH,
    multiple=True,
    help="The same recipe at a larger resolution, whose whole frame tiles must equal.",
)
@click.option(
    "--seam-tile",
    "seam_tiles",
    type=PATH,
    multiple=True,
    help="The same recipe at a resolution smaller than that.",
)
@click.option("--capture", type=PATH, required=True, help="As `photo-capture` writes it.")
@click.option("--target", help="Which target-NAME.png; needed when there are several.")
@click.option("--results", type=PATH, default=Path("artifacts/photo.json"), show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True)
@debug_option
def photo(**options: Any) -> int:
    """Measure memory, time over the ideal, and seams of photos in tiles; see docs/photos.md.

    Exits 1 when a bar is missed.
    """
    from benchmarks.photo_command import Options, run

    return run(Options(**options))


@main.command(
    "photo-capture",
    epilog=examples(
        "python -m benchmarks photo-capture artifacts/photo-capture",
    ),
)
@captures_option
@click.option("--target", default="all-in-focus", show_default=True, help="The captures' target.")
@click.option("--size", default="3072x4080", show_default=True, help="HEIGHTxWIDTH.")
@click.argument("folder", type=PATH)
@debug_option
def photo_capture(captures: Path, target: str, size: str, folder: Path) -> None:
    """Write a capture as large as a photo to FOLDER, laid out from held-out captures."""
    from benchmarks.photo_capture import write_photo_capture
    from dfnet.captureset import open_captures
    from dfnet.profiles import parse_resolution

    write_photo_capture(tuple(open_captures(captures)), target, parse_resolution(size), folder)
    click.echo(f"{folder}: {size}")


@main.command(
    epilog=examples(
        "python -m benchmarks baseline --platform android",
    )
)
@platform_option
@output_option
@baselines_option
@debug_option
def baseline(platform: str | None, output: Path, baselines: Path) -> int:
    """Accept what was measured: write a baseline per artifact and device, to be committed."""
    from benchmarks.baseline_command import write_baselines

    return write_baselines(platform, output, baselines)


@main.command(
    epilog=examples(
        "python -m benchmarks compare",
        "python -m benchmarks compare old.json artifacts --junit compare.xml",
    )
)
@platform_option
@output_option
@baselines_option
@junit_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON. Only with OLD NEW.")
@click.argument("runs", nargs=-1, type=PATH, metavar="[OLD NEW]")
@debug_option
def compare(
    platform: str | None,
    output: Path,
    baselines: Path,
    junit: Path | None,
    as_json: bool,
    runs: tuple[Path, ...],
) -> int:
    """Say what changed, and exit 1 when anything is slower, larger or worse.

    OLD and NEW are files that `report --json` printed, or folders of artifacts. Without them, what
    was measured in OUTPUT is held against the committed baselines. Unlike runs (other captures,
    another device, machine, protocol or thread count) are refused.
    """
    from benchmarks.baseline_command import compare_two, compare_with_baselines

    if len(runs) == 2:
        return compare_two(*runs, platform, junit, as_json=as_json)
    if runs or as_json:
        raise click.UsageError(f"OLD NEW: got {len(runs)} reports, needed two to compare.")
    return compare_with_baselines(platform, output, baselines, junit)


@main.command(
    epilog=examples(
        "python -m benchmarks readme",
        "python -m benchmarks readme --results docs/results.json --layout files",
    )
)
@click.option("--readme", type=PATH, default=Path("README.md"), show_default=True)
@click.option("--results", type=PATH, default=Path("docs/results.json"), show_default=True)
@click.option(
    "--layout",
    type=click.Choice(["files", "steps", "photos", "bundles", "peers", "sensitivity"]),
    default="files",
    show_default=True,
    help="A line per file, a column per recipe, or a line per file that did photos, per bundle, "
    "per runtime beside its peer, or per tensor of a sensitivity study.",
)
@debug_option
def readme(readme: Path, results: Path, layout: str) -> None:
    """Render the README's tables from a file written by `report --json`."""
    from benchmarks.readme import update

    changed = update(readme, results, layout=layout)
    click.echo(f"{readme}: {'updated' if changed else 'up to date'}")


if __name__ == "__main__":
    run_command(main)
