"""Debian packages for arm64, fetched and verified by apt without touching the system's own.

apt keeps its lists, cache and status in a folder of ours, which needs no root and changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from android_harness.programs import install_line, require_program, run_program
from dfnet.errors import DeviceError, MissingDependencyError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"
RELEASE = "bookworm"
BACKPORTS = f"{RELEASE}-backports"
ARCHITECTURE = "arm64"


@dataclass(frozen=True)
class PackageTree:
    """apt's own world in ``folder``, for ``ARCHITECTURE`` and an empty system."""

    folder: Path
    mirror: str = MIRROR

    def refresh(self) -> None:
        """Fetches the lists of packages.

        Raises:
            MissingDependencyError: apt or Debian's keys are missing.
            DeviceError: the mirror does not answer, or its signature is wrong.
        """
        require_program("apt-get", "apt", purpose="fetch the emulated device's packages")
        require_program("dpkg-deb", "dpkg", purpose="unpack the emulated device's packages")
        if not KEYRING.is_file():
            raise MissingDependencyError(
                f"Keys {KEYRING}: got none, needed them to verify Debian's packages. "
                f"{install_line('debian-archive-keyring')}"
            )
        for name in ("lists", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        origin = f"deb [arch={ARCHITECTURE} signed-by={KEYRING}] {self.mirror}"
        lines = "".join(f"{origin} {suite} main\n" for suite in (RELEASE, BACKPORTS))
        (self.folder / "sources.list").write_text(lines, encoding="utf-8")
        # Without Error-Mode a mirror that does not answer is only a warning.
        self._apt("update", "-o", "APT::Update::Error-Mode=any", doing="Fetch Debian's lists")

    def fetch_with_dependencies(self, names: Sequence[str], *, suite: str) -> list[Path]:
        """Package files of ``names`` and of all they depend on, by path.

        Raises:
            DeviceError: a package does not exist or cannot be fetched.
        """
        chosen = self._would_install(names, suite=suite)
        return self._fetch(chosen)

    def fetch_kernel(self, meta_package: str) -> Path:
        """The package file of the kernel that ``meta_package`` stands for at present.

        Raises:
            DeviceError: there is none, or it cannot be fetched.
        """
        chosen = self._would_install([meta_package], suite=RELEASE)
        kernels = [one for one in chosen if re.match(r"linux-image-\d", one)]
        if len(kernels) != 1:
            raise DeviceError(f"Kernel {meta_package}: got {kernels or 'none'}, needed one.")
        (path,) = self._fetch(kernels)
        return path

    def _would_install(self, names: Sequence[str], *, suite: str) -> list[str]:
        """``name=version`` of what apt would install into an empty system."""
        text = self._apt("install", "-s", "-t", suite, *names, doing=f"Choose {', '.join(names)}")
        found = re.findall(r"^Inst (\S+) \((\S+)", text, flags=re.MULTILINE)
        return [f"{name}={version}" for name, version in found]

    def _fetch(self, chosen: Sequence[str]) -> list[Path]:
        folder = self.folder / "debs"
        folder.mkdir(exist_ok=True)
        text = self._apt("download", "--print-uris", *chosen, doing="Find the packages")
        files = [folder / name for name in re.findall(r"^'\S+' (\S+\.deb) ", text, re.MULTILINE)]
        if len(files) != len(chosen):
            raise DeviceError(f"Packages: got {len(files)} files, needed {len(chosen)}.")
        self._apt("download", *chosen, doing="Fetch the packages", folder=folder)
        return files

    def _apt(self, verb: str, *words: str, doing: str, folder: Path | None = None) -> str:
        here = self.folder.resolve()
        settings = {
            "Dir::Etc::sourcelist": here / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": here,
            "Dir::State::lists": here / "lists",
            "Dir::State::status": here / "status",
            "Dir::Cache": here / "cache",
            "APT::Architecture": ARCHITECTURE,
            "APT::Architectures": ARCHITECTURE,
            "APT::Install-Recommends": "false",
            # As root, apt would hand the work to a user who cannot write here.
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        command = ["apt-get", "--quiet", *options, verb, *words]
        return run_program(command, doing=doing, folder=folder, timeout_s=1200)


def unpack(package: Path, folder: Path) -> None:
    """Unpacks a package file into ``folder``; none of its scripts run.

    Raises:
        DeviceError: it is no package.
    """
    run_program(["dpkg-deb", "-x", package, folder], doing=f"Unpack {package.name}")
