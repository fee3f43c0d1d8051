from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest

from android_harness import bundle as bundle_module
from android_harness import toolchain, wheels
from android_harness.bundle import MANIFEST_NAME, build_bundle, read_bundle
from android_harness.own_runner import own_bundle
from dfnet.errors import ArtifactError, DeviceError, MissingDependencyError, UnsupportedError


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs are not compiled but named; gives the names, in order."""
    compiled: list[str] = []

    def compile(
        self: toolchain.Toolchain, sources: object, program: Path, *, flags: object = ()
    ) -> None:
        compiled.append(program.name)
        shutil.copyfile("/bin/true", program)

    monkeypatch.setattr(toolchain.Toolchain, "compile", compile)
    return compiled


def test_a_bundle_is_built_once(quick: list[str], tmp_path: Path) -> None:
    first = build_bundle("x86_64", output=tmp_path)
    again = build_bundle("x86_64", output=tmp_path)
    assert quick == ["executorch_runner", "litert_runner"]
    assert again.manifest == first.manifest
    assert {"lib/libLiteRt.so", "lib/libc.so.6", "ld-linux-x86-64.so.2"} <= set(
        first.manifest.files
    )
    on_disk = {
        p.relative_to(first.folder).as_posix() for p in first.folder.rglob("*") if p.is_file()
    }
    assert on_disk == {*first.manifest.files, MANIFEST_NAME}


def test_a_changed_source_is_built_again(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "native"
    shutil.copytree(toolchain.NATIVE, sources)
    monkeypatch.setattr(bundle_module, "NATIVE", sources)
    first = build_bundle("x86_64", output=tmp_path)
    with (sources / "run.cpp").open("a") as stream:
        stream.write("// changed\n")
    second = build_bundle("x86_64", output=tmp_path)
    assert len(quick) == 4
    assert second.manifest.key != first.manifest.key


def test_another_sdk_is_built_again(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_bundle("x86_64", output=tmp_path)
    monkeypatch.setattr(bundle_module, "installed_version", lambda name: "9.9")
    assert build_bundle("x86_64", output=tmp_path).manifest.versions["executorch"] == "9.9"
    assert len(quick) == 4


def test_an_altered_bundle_is_refused_and_rebuilt(quick: list[str], tmp_path: Path) -> None:
    bundle = build_bundle("x86_64", output=tmp_path)
    (bundle.folder / "lib" / "libc.so.6").write_bytes(b"altered")
    with pytest.raises(ArtifactError, match=r"libc\.so\.6: got .* needed sha256"):
        read_bundle(bundle.folder)
    build_bundle("x86_64", output=tmp_path)
    assert len(quick) == 4
    read_bundle(bundle.folder)


def test_no_bundle_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_bundle(tmp_path)


def test_a_failed_build_leaves_the_old_bundle(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_bundle("x86_64", output=tmp_path)

    def fail(*arguments: object, **options: object) -> None:
        raise DeviceError("no")

    monkeypatch.setattr(toolchain.Toolchain, "compile", fail)
    monkeypatch.setattr(bundle_module, "installed_version", lambda name: "9.9")
    with pytest.raises(DeviceError):
        build_bundle("x86_64", output=tmp_path)
    assert read_bundle(first.folder).manifest == first.manifest
    folders = [path.name for path in first.folder.parent.iterdir() if path.is_dir()]
    assert folders == ["x86_64"]


def test_an_unknown_abi_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="arm64-v8a, x86_64"):
        build_bundle("riscv64", output=tmp_path)


def test_a_missing_compiler_names_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"apt-get install .*g\+\+-aarch64-linux-gnu"):
        build_bundle("arm64-v8a", output=tmp_path)


def test_a_missing_header_names_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> str:
        raise DeviceError("no such file")

    monkeypatch.setattr(toolchain, "run_program", fail)
    with pytest.raises(MissingDependencyError, match="nlohmann-json3-dev"):
        toolchain._json_version("g++")


def test_a_missing_sdk_is_an_error() -> None:
    with pytest.raises(MissingDependencyError, match="make setup"):
        wheels.installed_version("no-such-package")


def test_the_compiler_refuses_with_its_own_words(tmp_path: Path) -> None:
    chain = toolchain.find_toolchain(toolchain.abi_named("x86_64"))
    source = tmp_path / "wrong.cpp"
    source.write_text("int main() { return nonsense; }\n")
    with pytest.raises(DeviceError, match="nonsense"):
        chain.compile([source], tmp_path / "wrong")


def an_elf(path: Path, *, machine: int) -> Path:
    """The header of a program for ``machine`` (183: aarch64, 62: x86_64)."""
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, machine) + bytes(44))
    return path


def test_a_users_own_runner_is_packed_with_its_libraries(tmp_path: Path) -> None:
    built = tmp_path / "ndk"
    built.mkdir()
    runner = an_elf(built / "my_runner", machine=183)
    (built / "libc++_shared.so").write_bytes(b"library")
    bundle = own_bundle(runner, "litert", output=tmp_path)
    assert bundle.manifest.abi == "arm64-v8a"
    assert bundle.command("litert", "/data/job") == [
        "env", "LD_LIBRARY_PATH=lib", "./my_runner", "/data/job"
    ]  # fmt: skip
    assert set(bundle.manifest.files) == {"my_runner", "lib/libc++_shared.so"}
    with pytest.raises(ArtifactError, match="got runners for litert"):
        bundle.command("executorch", "/data/job")


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", None])
def test_what_is_no_runner_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "runner"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match="Runner .*runner"):
        own_bundle(path, "litert", output=tmp_path)


def test_a_runner_for_another_processor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="arm64-v8a"):
        own_bundle(an_elf(tmp_path / "runner", machine=40), "litert", output=tmp_path)


def test_the_manifest_reads_back(quick: list[str], tmp_path: Path) -> None:
    bundle = build_bundle("x86_64", output=tmp_path)
    data = json.loads((bundle.folder / MANIFEST_NAME).read_text())
    assert data["protocol"] == 1
    assert bundle.command("litert", "job")[-2:] == ["./litert_runner", "job"]
