"""A runner that a user built, with Android's NDK for example, in place of ours."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from android_harness.bundle import Bundle, read_bundle, write_manifest
from android_harness.job import Runtime
from dfnet.artifact import sha256_of, staged_folder
from dfnet.errors import ArtifactError, UnsupportedError

_MACHINES = {183: "arm64-v8a", 62: "x86_64"}
"""e_machine of an ELF header: EM_AARCH64, EM_X86_64."""

_HEADER = struct.Struct("<4s14xH")
"""The magic number, and after type and identification, e_machine."""


def own_bundle(binary: Path, runtime: Runtime, *, output: Path = Path("artifacts")) -> Bundle:
    """``binary`` and the shared libraries beside it, packed like our own runners.

    It must speak PROTOCOL.md, and is started as it is: on a phone with Android's own loader and
    C library. What it was built with it says itself, in every result.

    Raises:
        ArtifactError: it is no program, or the output cannot be written.
        UnsupportedError: it is for a processor that no device here has.
    """
    abi = _abi_of(binary)
    libraries = sorted(binary.parent.glob("*.so"))
    key = sha256_of(binary)
    folder = output / "android_harness" / f"own-{runtime}-{key[:12]}"
    with staged_folder(folder) as scratch:
        (scratch / "lib").mkdir()
        shutil.copyfile(binary, scratch / binary.name)
        (scratch / binary.name).chmod(0o755)
        for library in libraries:
            shutil.copyfile(library, scratch / "lib" / library.name)
        command = ("env", "LD_LIBRARY_PATH=lib", f"./{binary.name}")
        write_manifest(scratch, key, abi, "the user's", {}, {runtime: command})
    return read_bundle(folder)


def _abi_of(binary: Path) -> str:
    try:
        with binary.open("rb") as stream:
            head = stream.read(_HEADER.size)
    except OSError as error:
        raise ArtifactError(
            f"Runner {binary}: cannot be read ({error.strerror}). Check --runner-binary."
        ) from error
    magic, machine = _HEADER.unpack(head) if len(head) == _HEADER.size else (b"", 0)
    if magic != b"\x7fELF":
        raise ArtifactError(
            f"Runner {binary}: got no ELF program, needed one built for Android or Linux. "
            "Check --runner-binary."
        )
    if machine not in _MACHINES:
        raise UnsupportedError(
            f"Runner {binary}: got processor {machine} in its header, needed one of "
            f"{', '.join(_MACHINES.values())}. Build it for that."
        )
    return _MACHINES[machine]
