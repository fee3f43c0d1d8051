"""What this machine can build, run and measure, and the line that installs what is missing.

Looks at package metadata, the PATH and files; imports no SDK and starts nothing.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dfnet.captureset import open_captures
from dfnet.console import EXIT_MISSED_BAR, EXIT_OK, results_console
from dfnet.errors import CaptureError
from export.variants import RUNTIMES, SYSTEMS

MAIN_JOB_RUNTIMES = ("coreml", "executorch")
"""What ``make export-ios`` builds with."""

_CHECKPOINT = Path("data/checkpoints/reference.safetensors")
_HELD_OUT = Path("data/captures/held_out")
_PYTHON = (3, 11)
_LOCK = Path("requirements.lock")
_SYSTEM = {"Darwin": "macOS"}.get(platform.system(), platform.system())
_SHARED = ("torch", "torchao", "safetensors", "scikit-image", "adbutils", "pytest", "pytest-xdist")

_JSON_HEADER = Path("/usr/include/nlohmann/json.hpp")


@dataclass(frozen=True)
class Thing:
    """Something a job needs: here, or what to type to get it.

    ``found`` is its version or path, None when it is missing; ``required`` things are part of
    ``make export-ios`` and ``make test``.
    """

    name: str
    purpose: str
    found: str | None
    install: str
    required: bool


@dataclass(frozen=True)
class Ability:
    """What can be done with one runtime's backend: ``yes``, or the reason why not."""

    runtime: str
    backend: str
    sdk: str
    build: str
    run: str
    latency: str


def doctor(*, as_json: bool) -> int:
    """Prints what was found; 0 when ``make export-ios`` and ``make test`` can run, else 1."""
    things, abilities = find_things(), find_abilities()
    ready = all(thing.found for thing in things if thing.required)
    console = results_console()
    if as_json:
        found = {
            "ready": ready,
            "system": f"{_SYSTEM} {platform.machine()}",
            "runtimes": [asdict(one) for one in abilities],
            "things": [asdict(one) for one in things],
        }
        console.print_json(json.dumps(found))
    else:
        _print(abilities, things, console)
        console.print(
            "make export-ios and make test can run here."
            if ready
            else "make export-ios or make test cannot run here yet: see the lines marked needed."
        )
    return EXIT_OK if ready else EXIT_MISSED_BAR


def find_abilities() -> list[Ability]:
    """A line per runtime and backend."""
    pairs = {(key, v.backend): None for key, row in RUNTIMES.items() for v in row.variants}
    return [_ability(key, backend) for key, backend in pairs]


def _ability(key: str, backend: str) -> Ability:
    versions = {name: _version(name) for name in RUNTIMES[key].distributions}
    missing = [name for name, found in versions.items() if found is None]
    if missing:
        no = f"no ({', '.join(missing)} is missing)"
        return Ability(key, backend, "missing", build=no, run=no, latency=no)
    sdk = ", ".join(f"{name} {found}" for name, found in versions.items())
    needed = SYSTEMS.get(backend)
    if needed in (None, _SYSTEM):
        return Ability(key, backend, sdk, build="yes", run="yes", latency="yes, of this host")
    return Ability(
        key,
        backend,
        sdk,
        build="yes",
        run="by the reference evaluator",
        latency=f"no (needs {needed})",
    )


def find_things() -> list[Thing]:
    """Everything that any command may need, required things first."""
    found = [_python(), *_packages(), *_data(), *_programs()]
    return sorted(found, key=lambda thing: not thing.required)


def _python() -> Thing:
    found = ".".join(map(str, sys.version_info[:3])) if sys.version_info[:2] == _PYTHON else None
    line = "rm -r .venv; make setup PYTHON=/path/to/python3.11"
    return Thing("Python 3.11", "everything", found, line, required=True)


def _packages() -> list[Thing]:
    pins = dict(_pins())
    names = dict.fromkeys(_SHARED, "everything")
    for key, row in RUNTIMES.items():
        names |= dict.fromkeys(row.distributions, f"files of {key}")
    needed = {*_SHARED, *(n for key in MAIN_JOB_RUNTIMES for n in RUNTIMES[key].distributions)}
    return [
        Thing(name, purpose, _version(name), _pip_line(name, pins), required=name in needed)
        for name, purpose in names.items()
    ]


def _pins() -> list[tuple[str, str]]:
    """Name and requirement of every line of requirements.lock."""
    text = _LOCK.read_text(encoding="utf-8") if _LOCK.is_file() else ""
    return re.findall(r"^(([A-Za-z0-9._-]+)==[^\s;#\\]+)", text, re.MULTILINE)


def _pip_line(name: str, pins: dict[str, str]) -> str:
    pinned = next((pin for pin, one in pins.items() if one.lower() == name), name)
    return f"{Path(sys.executable)} -m pip install {pinned}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _data() -> list[Thing]:
    checkpoint = str(_CHECKPOINT) if _CHECKPOINT.is_file() else None
    captures = str(_HELD_OUT) if _are_whole(_HELD_OUT) else None
    return [
        Thing("reference checkpoint", "exports", checkpoint, "git checkout data", required=True),
        Thing("held-out captures", "every check", captures, "make setup", required=True),
    ]


def _are_whole(root: Path) -> bool:
    try:
        return not open_captures(root).missing_derived()
    except CaptureError:
        return False


def _programs() -> list[Thing]:
    """Programs of the system, by what needs them."""
    device, native = "make emulator, make bench-android on it", "native runners for devices"
    programs = {
        "qemu-system-aarch64": ("qemu-system-arm", device),
        "g++": ("g++", native),
        "aarch64-linux-gnu-g++": ("g++-aarch64-linux-gnu", native),
        "chromium": ("chromium", "tests of pages"),
        "chromedriver": ("chromium-driver", "tests of pages"),
    }
    found = [
        Thing(name, purpose, shutil.which(name), _apt_line(package), required=False)
        for name, (package, purpose) in programs.items()
    ]
    header = str(_JSON_HEADER) if _JSON_HEADER.is_file() else None
    found.append(
        Thing("nlohmann/json.hpp", native, header, _apt_line("nlohmann-json3-dev"), required=False)
    )
    mac = platform.mac_ver()[0] or None
    line = "run `make export-ios bench` on a Mac"
    return [*found, Thing("macOS", "Core ML itself and its latency", mac, line, required=False)]


def _apt_line(package: str) -> str:
    line = f"sudo apt-get install --no-install-recommends {package}"
    return line if _SYSTEM == "Linux" else f"on Debian or Ubuntu: {line}"


def _print(abilities: list[Ability], things: list[Thing], console: Console) -> None:
    table = _table("runtime", "SDK", "builds", "runs", "latency")
    for one in abilities:
        name = f"{one.runtime} ({one.backend})"
        table.add_row(*map(escape, (name, one.sdk, one.build, one.run, one.latency)))
    console.print(table)
    table = _table("what", "for", "found", "to get it")
    for thing in things:
        missing = "[bold red]needed[/]" if thing.required else "[yellow]missing[/]"
        found = missing if thing.found is None else escape(thing.found)
        line = "" if thing.found else escape(thing.install)
        table.add_row(escape(thing.name), escape(thing.purpose), found, line)
    console.print(table)


def _table(*headings: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
