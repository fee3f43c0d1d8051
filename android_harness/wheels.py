"""The runtimes' libraries for another machine, from the wheels of the installed versions."""

from __future__ import annotations

import platform
import shutil
import sys
import sysconfig
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from android_harness.programs import run_program
from android_harness.toolchain import Abi
from dfnet.artifact import staged_folder
from dfnet.errors import DeviceError, MissingDependencyError

EXECUTORCH = "executorch"
LITERT = "ai-edge-litert"
PACKAGES: dict[str, str] = {EXECUTORCH: "executorch", LITERT: "ai_edge_litert"}
"""Distributions whose wheels carry native libraries, and the folder each installs."""


def installed_version(distribution: str) -> str:
    """The version that is installed here, which the device's must equal.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return version(distribution).partition("+")[0]
    except PackageNotFoundError as error:
        raise MissingDependencyError(
            f"Package {distribution}: not installed, needed to know which version to pack. "
            "Run: make setup"
        ) from error


def package_folder(distribution: str, abi: Abi, cache: Path) -> Path:
    """The folder of ``distribution`` for ``abi``: the installed one, or unpacked into ``cache``.

    Raises:
        MissingDependencyError: it is not installed here.
        DeviceError: its wheel for ``abi`` cannot be fetched.
    """
    wanted = installed_version(distribution)
    if platform.system() == "Linux" and platform.machine() == abi.machine:
        return Path(sysconfig.get_path("platlib")) / PACKAGES[distribution]
    target = cache / f"{distribution}-{wanted}-{abi.name}"
    if not target.is_dir():
        with staged_folder(target) as folder:
            _unpack(_download(f"{distribution}=={wanted}", abi, folder), folder)
    return target / PACKAGES[distribution]


def _download(requirement: str, abi: Abi, folder: Path) -> Path:
    platforms = [part for tag in abi.wheel_platforms for part in ("--platform", tag)]
    python = ("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311")
    quiet = ("--quiet", "--disable-pip-version-check", "--progress-bar", "off")
    command = [sys.executable, "-m", "pip", "download", *quiet, "--no-deps"]
    command += ["--only-binary=:all:", *python, *platforms, "--dest", str(folder), requirement]
    run_program(command, doing=f"Fetch {requirement} for {abi.name}", timeout_s=1800)
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise DeviceError(
            f"Fetch {requirement} for {abi.name}: got {len(wheels)} wheels, needed one."
        )
    return wheels[0]


def _unpack(wheel: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch)
        for name in PACKAGES.values():
            if (Path(scratch) / name).is_dir():
                shutil.move(Path(scratch) / name, folder / name)
    wheel.unlink()
