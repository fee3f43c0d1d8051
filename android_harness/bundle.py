"""The native runners, built for an ABI and packed with every library they load.

artifacts/android_harness/<abi>/executorch_runner, litert_runner
                               /<loader>           the dynamic loader of the libraries' own glibc
                               /lib/*.so*          the runtimes' libraries and all they need
                               /manifest.json      hashes; written last

Such a bundle needs nothing of the system it runs on but a kernel, so it also starts where there is
no glibc. Its numbers are not those of an app built against Android's own C library.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from android_harness.inventory import require_files
from android_harness.job import PROTOCOL, Runtime
from android_harness.locks import alone
from android_harness.toolchain import (
    NATIVE,
    SHARED_SOURCES,
    Toolchain,
    abi_named,
    find_toolchain,
)
from android_harness.wheels import EXECUTORCH, LITERT, installed_version, package_folder
from dfnet.artifact import sha256_of, staged_folder
from dfnet.decoding import decode, read_json
from dfnet.errors import ArtifactError

SCHEMA = 1
MANIFEST_NAME = "manifest.json"
RUNNERS: dict[Runtime, str] = {"executorch": "executorch_runner", "litert": "litert_runner"}

_EXECUTORCH_LIBRARIES = (
    "executorch",
    "executorch_backend_xnnpack",
    "executorch_kernels_optimized",
    "executorch_kernels_quantized",
    "executorch_threadpool",
)
_LITERT_LIBRARY = "libLiteRt.so"


@dataclass(frozen=True)
class BundleManifest:
    """What is in a bundle.

    ``key`` is the hash of everything it was built from. ``commands`` are the words that start the
    runner of a runtime, in the bundle's folder; the job folder follows. ``files`` are hashes by
    path inside the bundle.
    """

    schema: int
    key: str
    protocol: int
    abi: str
    compiler: str
    versions: dict[str, str]
    commands: dict[str, tuple[str, ...]]
    files: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk."""

    folder: Path
    manifest: BundleManifest

    def command(self, runtime: Runtime, job_folder: str) -> list[str]:
        """The words that run a job with this bundle's folder as the working directory.

        Raises:
            ArtifactError: this bundle has no runner for ``runtime``.
        """
        if runtime not in self.manifest.commands:
            raise ArtifactError(
                f"Bundle {self.folder}: got runners for {', '.join(self.manifest.commands)}, "
                f"needed one for {runtime}. Give another --runner-binary."
            )
        return [*self.manifest.commands[runtime], job_folder]


def build_bundle(abi_name: str, *, output: Path = Path("artifacts")) -> Bundle:
    """The bundle for an ABI: the one that stands when nothing it was built from has changed.

    Raises:
        UnsupportedError: there is no such ABI.
        MissingDependencyError: a compiler, a header or an SDK is missing; says how to install it.
        DeviceError: the compiler or the download of a wheel fails.
        ArtifactError: the output cannot be written.
    """
    abi = abi_named(abi_name)
    toolchain = find_toolchain(abi)
    versions = {name: installed_version(name) for name in (EXECUTORCH, LITERT)}
    key = _key(toolchain, versions)
    folder = output / "android_harness" / abi.name
    cache = output / "android_harness" / "wheels"
    with alone(folder):
        if (standing := _standing(folder, key)) is not None:
            return standing
        with staged_folder(folder) as scratch, alone(cache):
            packages = {name: package_folder(name, abi, cache) for name in versions}
            _build(toolchain, packages, versions, scratch)
            _write_manifest(scratch, toolchain, versions, key)
        return read_bundle(folder)


def read_bundle(folder: Path) -> Bundle:
    """The bundle in ``folder``, every file of it verified.

    Raises:
        ArtifactError: it has no manifest, or a file is missing or another.
    """
    path = folder / MANIFEST_NAME
    manifest = decode(
        BundleManifest, read_json(path), f"Bundle {path}", page="android_harness/bundle.py"
    )
    require_files("Bundle", folder, manifest.files)
    return Bundle(folder, manifest)


def _standing(folder: Path, key: str) -> Bundle | None:
    try:
        bundle = read_bundle(folder)
    except ArtifactError:
        return None
    return bundle if bundle.manifest.key == key and bundle.manifest.schema == SCHEMA else None


def _key(toolchain: Toolchain, versions: dict[str, str]) -> str:
    """Of the sources and this recipe, the compiler and its loader, the SDKs' versions."""
    parts = {path.name: sha256_of(path) for path in sorted(NATIVE.iterdir()) if path.is_file()}
    here = Path(__file__).parent
    parts |= {name: sha256_of(here / name) for name in ("bundle.py", "toolchain.py")}
    parts |= {"loader": sha256_of(toolchain.loader()), "compiler": toolchain.version}
    text = json.dumps([toolchain.abi.name, versions, parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _build(
    toolchain: Toolchain, packages: dict[str, Path], versions: dict[str, str], target: Path
) -> None:
    shared = [NATIVE / name for name in SHARED_SOURCES]
    executorch, litert = (target / RUNNERS[name] for name in ("executorch", "litert"))
    toolchain.compile(
        [NATIVE / "executorch_runner.cpp", *shared],
        executorch,
        flags=_executorch_flags(packages[EXECUTORCH], versions),
    )
    sdk = f'-DDFNET_SDK="{LITERT} {versions[LITERT]}"'
    toolchain.compile([NATIVE / "litert_runner.cpp", *shared], litert, flags=[sdk, "-ldl"])
    folders = [packages[EXECUTORCH] / "lib", packages[LITERT]]
    library = packages[LITERT] / _LITERT_LIBRARY
    libraries = toolchain.closure([executorch, litert, library], folders)
    libraries[_LITERT_LIBRARY] = library
    (target / "lib").mkdir()
    for name, path in libraries.items():
        shutil.copyfile(path, target / "lib" / name)
    shutil.copyfile(toolchain.loader(), target / toolchain.abi.loader)
    (target / toolchain.abi.loader).chmod(0o755)


def _executorch_flags(package: Path, versions: dict[str, str]) -> list[str]:
    include = package / "include"
    return [
        f'-DDFNET_SDK="{EXECUTORCH} {versions[EXECUTORCH]}"',
        # What the libraries were built with; without them classes get another layout.
        "-DC10_USING_CUSTOM_GENERATED_MACROS",
        "-DET_EVENT_TRACER_ENABLED",
        "-isystem",
        str(include),
        "-isystem",
        str(include / "executorch/runtime/core/portable_type/c10"),
        f"-L{package / 'lib'}",
        # Backends and kernels register themselves when loaded; nothing refers to them.
        "-Wl,--no-as-needed",
        *(f"-l{name}" for name in _EXECUTORCH_LIBRARIES),
        "-Wl,--allow-shlib-undefined",
    ]


def _write_manifest(folder: Path, toolchain: Toolchain, versions: dict[str, str], key: str) -> None:
    start = (f"./{toolchain.abi.loader}", "--library-path", "lib")
    commands: dict[str, tuple[str, ...]]
    commands = {runtime: (*start, f"./{name}") for runtime, name in RUNNERS.items()}
    write_manifest(folder, key, toolchain.abi.name, toolchain.version, versions, commands)


def write_manifest(
    folder: Path,
    key: str,
    abi: str,
    compiler: str,
    versions: dict[str, str],
    commands: dict[str, tuple[str, ...]],
) -> None:
    """Writes the manifest of a bundle, with the hash of every file in ``folder``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = BundleManifest(
        schema=SCHEMA,
        key=key,
        protocol=PROTOCOL,
        abi=abi,
        compiler=compiler,
        versions=versions,
        commands=commands,
        files={path.relative_to(folder).as_posix(): sha256_of(path) for path in files},
    )
    text = json.dumps(manifest.to_json(), indent=1) + "\n"
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
