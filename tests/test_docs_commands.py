"""Commands in blocks of README and docs are run, at smoke size, or it is said why not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shown_commands import COMMAND, MAKE, ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
ANDROID = "artifacts/android"
INT8 = f"$(ls -td {ANDROID}/litert-xnnpack-int8-256x256-*/ | head -1)"
FP16 = "$(ls -td artifacts/ios/coreml-coreml-fp16-64x64-*/ | head -1)"
CAPTURE = "data/captures/held_out/held-out-300"
SMALL = "RESOLUTION=64x64"

RUN: dict[str, str] = {
    "make setup": "make setup",
    "make export-ios": f'make export-ios RUNTIME=coreml RECIPE="fp32 fp16" {SMALL}',
    'make export-android RECIPE="fp32 int8" RESOLUTION=hd': 'make export-android RECIPE="fp32 int8"'
    " RUNTIME=litert RESOLUTION=256x256",
    'make export-android RESOLUTION="preview hd" ARGS=--bundle': "make export-android RECIPE=fp32"
    ' RUNTIME=litert RESOLUTION="64x64 128x64" ARGS=--bundle OUTPUT=bundles',
    'make export-ios DEVICE="iPhone 14 Pro"': "python -m export --platform ios --runtime coreml"
    ' --recipe fp32 --device "iPhone 14 Pro" --output phone',
    "make export-android FACTORY=examples.plain_unet:make"
    " WEIGHTS=examples/plain_unet.safetensors": (
        "make export-android FACTORY=examples.plain_unet:make OUTPUT=own"
        f" WEIGHTS=examples/plain_unet.safetensors RUNTIME=onnx RECIPE=fp32 {SMALL}"
    ),
    "make export-android RECIPE=int8-app": "make export-android OUTPUT=apps"
    f' RECIPE="fp32 int8-app" RUNTIME=litert {SMALL}',
    'make export-android RECIPE="fp32-app int8-app"': "make export-android OUTPUT=apps"
    f' RECIPE="fp32-app int8-app" RUNTIME=litert {SMALL}',
    "python -m export --platform android --recipe int8-app": "python -m export --output apps"
    " --platform android --recipe int8-app --runtime litert --resolution 64x64",
    "python -m export --platform ios --recipe w8-app --recipe fp16-app": (
        "python -m export --platform ios --recipe w8-app --recipe fp16-app --output apps"
        " --runtime coreml --resolution 64x64"
    ),
    'make parity ARGS="--platform android"': 'make parity ARGS="--platform android"',
    'make bench ARGS="--platform android"': 'make bench ARGS="--platform android --protocol quick"',
    "make report": "make report",
    "make report ARGS=--json": "make report ARGS=--json",
    'make report ARGS="--platform ios"': 'make report ARGS="--platform ios"',
    ".venv/bin/python -m benchmarks report --platform ios": "",
    'make compare ARGS="OLD NEW"': 'make compare ARGS="artifacts artifacts"',
    "python -m benchmarks compare OLD NEW": "python -m benchmarks compare artifacts artifacts",
    ".venv/bin/python -m benchmarks parity --junit parity.xml": "",
    ".venv/bin/python -m benchmarks compare accepted/report.json artifacts --junit compare.xml": (
        "mkdir -p accepted && cp artifacts/results/report.json accepted &&"
        " .venv/bin/python -m benchmarks compare accepted/report.json artifacts --junit compare.xml"
    ),
    "python -m export.photo --artifact DIR --capture FOLDER --output photo.png": (
        f"python -m export.photo --artifact {INT8} --capture {CAPTURE} --target all-in-focus"
        " --output photo.png"
    ),
    "python -m export.photo --artifact artifacts/android/<id> --capture FOLDER --output photo.png"
    " --memory-mb 700": (
        f"python -m export.photo --artifact {INT8} --capture {CAPTURE} --target all-in-focus"
        " --output photo-2.png --memory-mb 700"
    ),
    "python -m dfnet refocus --artifact DIR --capture DIR --focus-at X,Y --output out.png": (
        f"python -m dfnet refocus --artifact {INT8} --capture {CAPTURE} --focus-at 9,9"
        " --output out.png"
    ),
    "python -m dfnet refocus --artifact artifacts/android/ID --capture"
    " data/captures/held_out/held-out-300 --focus-at 128,90 --f-stop 1.4 --output out.png": (
        f"python -m dfnet refocus --artifact {INT8} --capture {CAPTURE} --focus-at 128,90"
        " --f-stop 1.4 --output out-2.png"
    ),
    "python -m export lint --platform android": "",
    ".venv/bin/python -m export lint --platform android": "",
    ".venv/bin/python -m export lint --platform android --factory examples.plain_unet:make"
    " --weights examples/plain_unet.safetensors": "",
    ".venv/bin/python -m export lint --platform ios --factory examples.plain_unet:make"
    " --weights examples/plain_unet.safetensors": "",
    "python -m export --platform android --resolution preview --resolution hd --bundle": (
        "python -m export --platform android --resolution 64x64 --resolution 128x64 --bundle"
        " --runtime litert --recipe fp32 --output bundles"
    ),
    "python -m export --platform android --runtime litert --recipe int8 --resolution 1168x856": (
        "python -m export --platform android --runtime litert --recipe int8 --resolution 64x64"
        " --output photos"
    ),
    "python -m benchmarks job --platform ios --recipe fp16 jobs": "",
    '.venv/bin/python -m benchmarks job --platform ios --runtime coreml --device-name "iPhone 14'
    ' Pro" jobs': "rm -r jobs && .venv/bin/python -m benchmarks job --platform ios --runtime coreml"
    ' --device-name "iPhone 14 Pro" jobs',
    '.venv/bin/python -m benchmarks job --platform ios --runtime coreml --device-name "iPhone 14'
    ' Pro" --accelerator cpu --accelerator gpu jobs-gpu': "",
    "python -m export.coreml_bisect artifacts/ios/<id>/model.mlpackage --bar 30": (
        f"python -m export.coreml_bisect {FP16}model.mlpackage --bar 30"
    ),
    "python -m benchmarks readme --readme docs/photos.md --results docs/photo.json --layout"
    " photos": "",
}
"""A command as it is shown -> what is run; empty: the same."""

MISSED_BAR = ("make parity", "make bench ", "benchmarks parity", "lint", "coreml_bisect")
"""What these find decides their exit code, not whether they work."""

_MAC = "needs a Mac"
_PHONE = "needs a phone"
_TESTS = "runs tests"
_LONG = "tens of minutes; the tests of its module run it on small networks"
NOT_RUN: dict[str, str] = {
    "make test": _TESTS,
    "make check test": _TESTS,
    'make test-full ARGS="-m gpu"': _TESTS,
    'make test ARGS="tests/test_mil_recordings.py -rA"': _TESTS,
    "make demo": "tests/test_dfnet_demo_end_to_end.py runs it",
    "make export": "is export-ios and export-android",
    "make bench-android": "boots an emulator; tests/test_benchmarks_device.py runs what it calls",
    "make bench-android DEVICE=<serial>": _PHONE,
    ".venv/bin/python -m benchmarks device --device <serial> --device <serial> --device"
    " emulator": _PHONE,
    ".venv/bin/python -m benchmarks device --device <serial> --runtime litert --runner-binary"
    " build/runner": _PHONE,
    ".venv/bin/python -m export.mil.record": _MAC,
    ".venv/bin/python -m export.coreml_measure artifacts/ios/<id> --unit all --output"
    " result.json": _MAC,
    ".venv/bin/python -m export.coreml_measure artifacts/ios/<artifact id> --unit all --output"
    " result.json": _MAC,
    ".venv/bin/python -m benchmarks import result.json": _MAC,
    "python -m benchmarks import jobs/*/result.json": _MAC,
    ".venv/bin/python -m benchmarks import <path>/*/result.json": _MAC,
    "python -m export.coreml_bisect fp16.mlpackage --reference fp32.mlpackage": "takes files of"
    " other makers; tests/test_mil_bisect.py runs it",
    "python -m export.coreml_calibrate fp16.mlpackage --output own.mlpackage": "takes minutes;"
    " tests/test_export_coreml_calibrate.py runs it on a small network",
    "make peers": _LONG,
    "python -m benchmarks.peers --json": _LONG,
    "make sensitivity": _LONG,
    'make search ARGS="--budget-db 0.03"': _LONG,
    "make stability": _LONG,
    "python -m benchmarks photo-capture artifacts/photo-capture": "renders 12 megapixels; the tests"
    " of its module run it smaller",
    "python -m export --platform android --runtime litert --recipe fp32 --recipe int8 --resolution"
    " 1168x856 --resolution 1536x1024 --resolution 768x512 --output artifacts/photo": _LONG,
    "python -m benchmarks photo --capture artifacts/photo-capture --results docs/photo.json"
    " --artifact $F-fp32-1168x856-* --seam-whole $F-fp32-1536x1024-* --seam-tile"
    " $F-fp32-768x512-* --artifact $F-int8-1168x856-* --seam-whole $F-int8-1536x1024-*"
    " --seam-tile $F-int8-768x512-*": _LONG,
}
"""A command as it is shown -> why no test types it."""


def shown(page: str) -> Iterator[str]:
    """Commands in indented blocks and in `run:` lines, continued lines joined, comments dropped."""
    for line in re.sub(r"\\\n\s*", " ", page).splitlines():
        if not line.startswith("    ") and "run: " not in line:
            continue
        words = re.sub(r"\s+#.*", "", re.sub(r"^\s*-? ?(run: )?", "", line))
        command = " ".join(words.split())
        if MAKE.match(command) or COMMAND.match(command):
            yield command


def test_every_command_is_run_or_says_why_not() -> None:
    found = {command for page in PAGES for command in shown(page.read_text(encoding="utf-8"))}
    known = {*RUN, *NOT_RUN}
    assert sorted(found - known) == [], "shown, but neither run nor excused"
    assert sorted(known - found) == [], "listed here, but no longer shown"
    assert not RUN.keys() & NOT_RUN.keys()
    named = {name for why in NOT_RUN.values() for name in re.findall(r"tests/\w+\.py", why)}
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_a_new_command_is_noticed() -> None:
    page = "Type\n\n    make fly   # soon\n\nand `make report`.\n"
    assert list(shown(page)) == ["make fly"]
    assert "make fly" not in {*RUN, *NOT_RUN}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources where commands may write, with this one's environment."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    derived = [str(p.relative_to(ROOT)) for p in ROOT.glob("data/captures/held_out/*/*")]
    for name in dict.fromkeys([*listed.stdout.splitlines(), *derived]):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.litert
@pytest.mark.coreml
@pytest.mark.onnx
def test_they_run_one_after_the_other(checkout: Path) -> None:
    path = f"{checkout / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    wrong = {}
    for command, smoke in RUN.items():
        done = subprocess.run(
            ["bash", "-c", smoke or command],
            cwd=checkout,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=1200,
        )
        said = done.stdout + done.stderr
        finds = any(words in command for words in MISSED_BAR)
        # make's own code for any failure is 2; it prints the command's.
        missed = done.returncode == 1 or "Error 1" in said
        if (done.returncode and not (finds and missed)) or re.search(NOISE, said):
            wrong[command] = f"exit {done.returncode}: {said[-1500:]}"
    assert wrong == {}


NOISE = r"Traceback|Warning:|WARNING:|\bI0000\b|\[cpuinfo|not been tested with"
"""What only an SDK, or a bug, writes."""
