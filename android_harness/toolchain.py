"""Compilers of the native runners: one per ABI, and the libraries their programs need."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from android_harness.programs import install_line, require_program, run_program
from dfnet.errors import DeviceError, MissingDependencyError, UnsupportedError

NATIVE = Path(__file__).parent / "native"
SHARED_SOURCES = ("run.cpp", "job.cpp", "result.cpp", "measure.cpp", "files.cpp", "sha256.cpp")
_FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror")
_JSON_PACKAGE = "nlohmann-json3-dev"


@dataclass(frozen=True)
class Abi:
    """What a bundle is built for.

    ``machine`` is what ``platform.machine()`` calls it there; ``compilers`` are tried in order.
    ``wheel_platforms`` are pip's tags, newest glibc first.
    """

    name: str
    machine: str
    compilers: tuple[str, ...]
    package: str
    loader: str
    wheel_platforms: tuple[str, ...]


ABIS: dict[str, Abi] = {
    abi.name: abi
    for abi in (
        Abi(
            "arm64-v8a",
            "aarch64",
            ("aarch64-linux-gnu-g++",),
            "g++-aarch64-linux-gnu",
            "ld-linux-aarch64.so.1",
            ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64"),
        ),
        Abi(
            "x86_64",
            "x86_64",
            ("x86_64-linux-gnu-g++", "g++"),
            "g++",
            "ld-linux-x86-64.so.2",
            ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64"),
        ),
    )
}
"""Android's own names of the ABIs. x86_64 is this machine's, to compare the runners on."""


def abi_named(name: str) -> Abi:
    """The ABI ``name``.

    Raises:
        UnsupportedError: there is no such ABI; lists those there are.
    """
    if name not in ABIS:
        raise UnsupportedError(f"ABI {name!r}: needed one of {', '.join(ABIS)}.")
    return ABIS[name]


@dataclass(frozen=True)
class Toolchain:
    """A compiler that makes programs for ``abi``; ``version`` tells it and its headers apart."""

    abi: Abi
    compiler: str
    version: str

    def compile(self, sources: Sequence[Path], program: Path, *, flags: Sequence[str] = ()) -> None:
        """Compiles and links ``sources`` into ``program``; ``flags`` follow, libraries last.

        Raises:
            DeviceError: the compiler refuses; shows what it said.
        """
        run_program(
            [self.compiler, *_FLAGS, *sources, "-o", program, *flags],
            doing=f"Build {program.name} for {self.abi.name}",
            timeout_s=1800,
        )

    def closure(self, roots: Iterable[Path], folders: Sequence[Path]) -> dict[str, Path]:
        """Every library that ``roots`` need, directly or not, by the name they ask for it.

        Looks in ``folders`` first, then where the compiler keeps its own.

        Raises:
            DeviceError: a library is nowhere.
        """
        found: dict[str, Path] = {}
        waiting = list(roots)
        while waiting:
            for name in _needed(waiting.pop()):
                if name not in found and name != self.abi.loader:
                    found[name] = self._find(name, folders)
                    waiting.append(found[name])
        return found

    def loader(self) -> Path:
        """The dynamic loader of the compiler's own libc."""
        return self._find(self.abi.loader, ())

    def _find(self, name: str, folders: Sequence[Path]) -> Path:
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
        path = Path(
            run_program([self.compiler, f"-print-file-name={name}"], doing=f"Find {name}").strip()
        )
        # The compiler repeats the bare name when it knows no such file.
        if not path.is_absolute() or not path.is_file():
            raise DeviceError(
                f"Library {name}: got none for {self.abi.name}, needed it beside the runners. "
                f"{install_line(self.abi.package)}"
            )
        return path.resolve()


def _needed(binary: Path) -> list[str]:
    """Names of the shared libraries that an ELF file asks for."""
    text = run_program(["readelf", "--dynamic", "--wide", binary], doing=f"Read {binary.name}")
    return re.findall(r"\(NEEDED\).*\[(.+)\]", text)


def find_toolchain(abi: Abi) -> Toolchain:
    """The compiler for ``abi``.

    Raises:
        MissingDependencyError: it or a header is not installed; gives the line that installs it.
    """
    compiler = next((found for name in abi.compilers if (found := _compiler(name, abi))), None)
    if compiler is None:
        raise MissingDependencyError(
            f"Compiler for {abi.name}: got none of {', '.join(abi.compilers)} on the PATH, needed "
            f"one to build the native runners. {install_line(f'{abi.package} {_JSON_PACKAGE}')}"
        )
    require_program("readelf", "binutils", purpose="pack the native runners")
    version = run_program([compiler, "--version"], doing="Ask the compiler").splitlines()[0]
    return Toolchain(abi, compiler, f"{version}; nlohmann-json {_json_version(compiler)}")


def _compiler(name: str, abi: Abi) -> str | None:
    path = shutil.which(name)
    # Plain g++ makes programs for the machine it runs on, which need not be the ABI.
    fits = name != "g++" or platform.machine() == abi.machine
    return path if fits else None


def _json_version(compiler: str) -> str:
    header = "nlohmann/json.hpp"
    macros = ("-E", "-dM", "-std=c++17", "-x", "c++", "-include", header, "/dev/null")
    try:
        text = run_program([compiler, *macros], doing=f"Find {header}")
    except DeviceError as error:
        raise MissingDependencyError(
            f"Header {header}: got none, needed it to build the native runners. "
            f"{install_line(_JSON_PACKAGE)}"
        ) from error
    numbers = dict(re.findall(r"NLOHMANN_JSON_VERSION_(MAJOR|MINOR|PATCH) (\d+)", text))
    return ".".join(numbers.get(part, "?") for part in ("MAJOR", "MINOR", "PATCH"))
