"""What the commands of ``python -m android_harness`` do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from android_harness.boot import DEFAULT_PORT
from android_harness.bundle import build_bundle
from android_harness.emulator import start_detached, stop_all
from android_harness.image import build_image
from android_harness.machine import Hardware, records
from android_harness.toolchain import ABIS
from dfnet.artifact import bytes_of
from dfnet.console import Progress, results_console


def bundle(abis: Sequence[str], output: Path) -> None:
    """Builds the bundles of ``abis``, of the phones' ABI when none is given; prints where."""
    for abi in abis or (next(iter(ABIS)),):
        with Progress() as progress, progress.step(f"Build the runners for {abi}") as step:
            built = build_bundle(abi, output=output)
            step.outcome = f"{bytes_of(built.folder) / 1e6:.1f} MB"
        results_console().print(str(built.folder), markup=False, soft_wrap=True)


def start_emulator(port: int | None, output: Path, *, icount: bool) -> None:
    """Boots a device and prints its serial."""
    with Progress() as progress:
        image = build_image(output=output, progress=progress)
        with progress.step("Boot the emulated device"):
            record = start_detached(
                image,
                _folder(output),
                hardware=Hardware(icount=icount),
                port=DEFAULT_PORT if port is None else port,
            )
    results_console().print(record.serial, markup=False)


def stop_emulators(port: int | None, output: Path) -> None:
    """Stops the devices and prints the serial of each."""
    for record in stop_all(_folder(output), port=port):
        results_console().print(f"{record.serial} stopped", markup=False)


def print_emulators(output: Path) -> None:
    """Prints the serial of each device that runs, and how it runs."""
    for record in records(_folder(output)):
        mode = " icount" if record.icount else ""
        results_console().print(f"{record.serial} process {record.pid}{mode}", markup=False)


def _folder(output: Path) -> Path:
    return output / "android_harness" / "emulator"
