"""The fake device with Android's tools as scripts: a phone whose processor is this machine's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from android_harness.transport import Transport

from fake_adb import SERIAL, FakeAdb

FIXTURES = Path(__file__).parent / "android_fixtures"
PHONE = {
    "ro.product.cpu.abi": "x86_64",
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel 8",
    "ro.build.version.release": "14",
    "ro.build.id": "AP2A.240805.005",
    "ro.hardware": "shiba",
}


class Phone:
    """The fake device with Android's tools as scripts, and its /data/local/tmp."""

    def __init__(self, server: FakeAdb, tools: Path, root: Path) -> None:
        self.server, self.tools, self.root = server, tools, root
        self.transport = Transport(SERIAL, patience_s=5)
        self.properties(PHONE)

    def properties(self, values: dict[str, str]) -> None:
        self.tool("getprop", "\n".join(f"echo '[{n}]: [{v}]'" for n, v in values.items()))

    def services(self, battery: str, thermal: str) -> None:
        places = f"battery) cat {FIXTURES}/battery_{battery}.txt;;"
        places += f"thermalservice) cat {FIXTURES}/thermal_{thermal}.txt;;"
        self.tool("dumpsys", f'case "$1" in {places} esac')
        self.tool("settings", "echo 0")
        self.tool("cmd", "exit 0")

    def tool(self, name: str, script: str) -> None:
        path = self.tools / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    @property
    def is_clean(self) -> bool:
        return list(self.root.iterdir()) == []


@contextmanager
def a_phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    """The only device of an adb server of its own."""
    tools, root = tmp_path / "tools", tmp_path / "device"
    tools.mkdir()
    root.mkdir()
    monkeypatch.setattr("android_harness.transport.ROOT", str(root))
    with FakeAdb(tools) as server:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
        yield Phone(server, tools, root)
