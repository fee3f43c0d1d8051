"""The emulated device's boot image: a kernel and an initial RAM file system of Debian packages.

artifacts/android_harness/image/kernel, initramfs, manifest.json

AOSP's adbd serves it, mksh and toybox are Android's own shell and tools. It is an arm64 Linux
behind adb, not Android: no bionic, no dumpsys, no package manager.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from android_harness.initramfs import write_initramfs
from android_harness.inventory import require_files
from android_harness.locks import alone
from android_harness.packages import BACKPORTS, PackageTree, unpack
from dfnet.artifact import sha256_of, staged_folder
from dfnet.console import Progress
from dfnet.decoding import decode, read_json
from dfnet.errors import ArtifactError, DeviceError

SCHEMA = 1
MANIFEST_NAME = "manifest.json"
PACKAGES = ("adbd", "mksh", "toybox", "busybox-static")
KERNEL = "linux-image-cloud-arm64"
MODULES = ("virtio", "virtio_ring", "virtio_mmio", "failover", "net_failover", "virtio_net")
"""Kernel modules of the network card, in the order ``device/init`` loads them; some kernels have
a few of them built in."""

_DEVICE = Path(__file__).parent / "device"
"""The device's first process, its properties, and ``tools``: names of toybox in an adb shell."""

_FROM_BUSYBOX = ("dd", "expr", "tr")
"""What a phone has of toybox, but Debian's toybox has not."""

_UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "boot")


@dataclass(frozen=True)
class ImageManifest:
    """``key`` is of all that decides the image; ``packages`` are the files it was made of."""

    schema: int
    key: str
    packages: tuple[str, ...]
    files: dict[str, str]


@dataclass(frozen=True)
class Image:
    """A kernel and its initial RAM file system on disk."""

    folder: Path
    manifest: ImageManifest

    @property
    def kernel(self) -> Path:
        return self.folder / "kernel"

    @property
    def initramfs(self) -> Path:
        return self.folder / "initramfs"


def build_image(*, output: Path = Path("artifacts"), progress: Progress | None = None) -> Image:
    """The boot image: the one that stands when what decides it has not changed.

    Raises:
        MissingDependencyError: apt, dpkg or Debian's keys are missing; says how to install them.
        DeviceError: a package cannot be fetched or holds no kernel.
        ArtifactError: the output cannot be written.
    """
    folder = output / "android_harness" / "image"
    key = _key()
    shown = progress or Progress()
    with alone(folder):
        if (standing := _standing(folder, key)) is not None:
            return standing
        with staged_folder(folder) as scratch:
            packages = _fetch(PackageTree(output / "android_harness" / "debian"), shown)
            with shown.step("Build the emulated device's boot image"):
                _assemble(packages, scratch)
                _write_manifest(scratch, key, packages)
        return read_image(folder)


def read_image(folder: Path) -> Image:
    """The image in ``folder``, verified.

    Raises:
        ArtifactError: there is none, or a file is missing or another.
    """
    path = folder / MANIFEST_NAME
    page = "android_harness/image.py"
    manifest = decode(ImageManifest, read_json(path), f"Image {path}", page=page)
    require_files("Image", folder, manifest.files)
    return Image(folder, manifest)


def _standing(folder: Path, key: str) -> Image | None:
    try:
        image = read_image(folder)
    except ArtifactError:
        return None
    return image if image.manifest.key == key else None


def _key() -> str:
    files = {path.name: sha256_of(path) for path in sorted(_DEVICE.iterdir())}
    here = Path(__file__).parent
    files |= {name: sha256_of(here / name) for name in ("image.py", "initramfs.py")}
    text = json.dumps([SCHEMA, PACKAGES, KERNEL, files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _fetch(tree: PackageTree, progress: Progress) -> list[Path]:
    with progress.step("Fetch Debian's lists of packages"):
        tree.refresh()
    with progress.step("Fetch the emulated device's packages") as step:
        packages = tree.fetch_with_dependencies(PACKAGES, suite=BACKPORTS)
        packages.append(tree.fetch_kernel(KERNEL))
        step.outcome = f"{len(packages)} packages"
    return packages


def _assemble(packages: list[Path], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        for package in packages:
            unpack(package, root)
        shutil.copyfile(_only(root, "boot/vmlinuz-*"), target / "kernel")
        _keep_modules(root)
        _prune(root)
        _furnish(root)
        write_initramfs(root, target / "initramfs")


def _keep_modules(root: Path) -> None:
    """Leaves only ``MODULES`` in /lib/modules, side by side."""
    found = {path.stem: path for path in (root / "lib/modules").rglob("*.ko")}
    kept = {name: found[name].read_bytes() for name in MODULES if name in found}
    shutil.rmtree(root / "lib/modules")
    (root / "lib/modules").mkdir()
    for name, content in kept.items():
        (root / f"lib/modules/{name}.ko").write_bytes(content)


def _prune(root: Path) -> None:
    for name in _UNUSED:
        shutil.rmtree(root / name, ignore_errors=True)
    for folder in root.rglob("gconv"):
        shutil.rmtree(folder)


def _furnish(root: Path) -> None:
    for name in ("proc", "sys", "dev", "tmp", "run", "etc", "bin", "system", "data/local/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, place in (("init", "init"), ("getprop", "bin/getprop"), ("reboot", "bin/reboot")):
        shutil.copyfile(_DEVICE / name, root / place)
        (root / place).chmod(0o755)
    shutil.copyfile(_DEVICE / "build.prop", root / "system/build.prop")
    toybox = _only(root, "*bin/toybox", "usr/*bin/toybox").relative_to(root)
    for tool in (_DEVICE / "tools").read_text().split():
        (root / "bin" / tool).unlink(missing_ok=True)
        (root / "bin" / tool).symlink_to(Path("/") / toybox)
    busybox = _only(root, "*bin/busybox", "usr/*bin/busybox").relative_to(root)
    for tool in _FROM_BUSYBOX:
        (root / "bin" / tool).symlink_to(Path("/") / busybox)
    shell = _only(root, "bin/mksh", "usr/bin/mksh").relative_to(root)
    (root / "bin/sh").unlink(missing_ok=True)
    (root / "bin/sh").symlink_to(Path("/") / shell)
    (root / "system/bin").symlink_to("/bin")
    (root / "etc/passwd").write_text("root:x:0:0:root:/data/local/tmp:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")


def _only(root: Path, *patterns: str) -> Path:
    found = sorted(path for pattern in patterns for path in root.glob(pattern))
    if len(found) != 1:
        raise DeviceError(
            f"Packages: got {len(found)} files like {patterns[0]}, needed one. "
            "Debian has changed them; delete artifacts/android_harness/debian and try again."
        )
    return found[0]


def _write_manifest(folder: Path, key: str, packages: list[Path]) -> None:
    names = tuple(sorted(path.name for path in packages))
    files = {name: sha256_of(folder / name) for name in ("kernel", "initramfs")}
    manifest = ImageManifest(SCHEMA, key, names, files)
    text = json.dumps(asdict(manifest), indent=1) + "\n"
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
