"""python -m android_harness bundle | emulator: native runners and the emulated device.

Only options live here, so that --help answers at once; the work is imported where it is done.
"""

from __future__ import annotations

from pathlib import Path

import click

from dfnet.console import debug_option, examples, run_command

_OUTPUT = click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("artifacts"),
    show_default=True,
    help="Built files go to OUTPUT/android_harness.",
)
_PORT_HELP = "Port on this machine; adb calls the device 127.0.0.1:PORT."


@click.group("android_harness")
def main() -> None:
    """Build the native runners, and run an emulated arm64 device."""


@main.command(
    epilog=examples(
        "python -m android_harness bundle --abi arm64-v8a",
    )
)
@click.option("--abi", "abis", multiple=True, help="arm64-v8a or x86_64; may be repeated.")
@_OUTPUT
@debug_option
def bundle(abis: tuple[str, ...], output: Path) -> None:
    """Build the runners and pack them with their libraries. Reused when nothing has changed."""
    from android_harness.command import bundle

    bundle(abis, output)


@main.group()
def emulator() -> None:
    """Start and stop an emulated arm64 device behind adb."""


@emulator.command(epilog=examples("python -m android_harness emulator start"))
@click.option("--port", type=click.IntRange(1024, 65535), help=_PORT_HELP)
@click.option(
    "--icount", is_flag=True, help="Count instructions as time: one core, times that repeat."
)
@_OUTPUT
@debug_option
def start(port: int | None, icount: bool, output: Path) -> None:
    """Boot a device that runs until it is stopped, and print what adb calls it."""
    from android_harness.command import start_emulator

    start_emulator(port, output, icount=icount)


@emulator.command(epilog=examples("python -m android_harness emulator stop"))
@click.option("--port", type=click.IntRange(1024, 65535), help="Only this one. Default: all.")
@_OUTPUT
@debug_option
def stop(port: int | None, output: Path) -> None:
    """Stop the devices that `start` left running."""
    from android_harness.command import stop_emulators

    stop_emulators(port, output)


@emulator.command(epilog=examples("python -m android_harness emulator status"))
@_OUTPUT
@debug_option
def status(output: Path) -> None:
    """Print the devices that run, one a line."""
    from android_harness.command import print_emulators

    print_emulators(output)


if __name__ == "__main__":
    run_command(main)
