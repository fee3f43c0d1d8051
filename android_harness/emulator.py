"""An emulated arm64 device behind adb: booted, waited for, and shut down for certain.

with Emulator(build_image()) as emulator:
    adb -s {emulator.serial} shell uname -m
"""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from android_harness.boot import BOOT_TIMEOUT_S, DEFAULT_PORT, end, record_of, start
from android_harness.image import Image
from android_harness.machine import Hardware, Record, forget, records, write_record
from dfnet.errors import DeviceError

_WATCH = 'read -r _; kill -9 "$0" 2> /dev/null'
"""Kills the device when the pipe it reads from closes, which the end of this process does, however
it ends."""


class Emulator:
    """A device that lives as long as the ``with`` block, and no longer than this process.

    ``port`` None takes a free one, so several run side by side. ``serial`` is what adb calls it
    after ``adb connect``.

    Raises (on entering):
        MissingDependencyError: qemu is not installed; says how to install it.
        DeviceError: it does not boot; shows the end of its console.
    """

    def __init__(
        self,
        image: Image,
        *,
        hardware: Hardware | None = None,
        port: int | None = None,
        boot_timeout_s: float = BOOT_TIMEOUT_S,
    ) -> None:
        self._image = image
        self.hardware = hardware or Hardware()
        self._wanted_port = port
        self._boot_timeout_s = boot_timeout_s
        self._record: Record | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def serial(self) -> str:
        return self.record.serial

    @property
    def record(self) -> Record:
        """Its process and port.

        Raises:
            DeviceError: it does not run.
        """
        if self._record is None:
            raise DeviceError("Emulated device: not started, needed `with Emulator(...)`.")
        return self._record

    def console(self) -> str:
        """What the device wrote to its console so far."""
        return self._console_path().read_text(errors="replace")

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="dfnet-emulator-")
        with ExitStack() as unless_booted:
            unless_booted.callback(self._end)
            self._process, self._record = start(
                self._image,
                self.hardware,
                port=self._wanted_port,
                console=self._console_path(),
                boot_timeout_s=self._boot_timeout_s,
                started=self._watch,
            )
            unless_booted.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _console_path(self) -> Path:
        if self._folder is None:
            raise DeviceError("Emulated device: not started, needed `with Emulator(...)`.")
        return Path(self._folder.name) / "console.log"

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        self._unwatch()
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, str(process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _unwatch(self) -> None:
        # First of all, lest it kill whoever gets the process's number next.
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.wait()
            if self._watcher.stdin is not None:
                self._watcher.stdin.close()
            self._watcher = None

    def _end(self) -> None:
        self._unwatch()
        if self._process is not None:
            end(self._process)
            self._process = None
        self._record = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def start_detached(
    image: Image,
    folder: Path,
    *,
    hardware: Hardware | None = None,
    port: int = DEFAULT_PORT,
    boot_timeout_s: float = BOOT_TIMEOUT_S,
) -> Record:
    """Starts a device that outlives this process; ``stop_all`` ends it. Records it in ``folder``.

    Raises:
        MissingDependencyError: qemu is not installed.
        DeviceError: one runs on ``port`` already, or it does not boot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(record.port == port for record in records(folder)):
        raise DeviceError(
            f"Emulated device 127.0.0.1:{port}: runs already. Use it, stop it, or choose another "
            "--port."
        )
    console = folder / f"{port}.log"
    hardware = hardware or Hardware()

    def note(process: subprocess.Popen[bytes]) -> None:
        # Before the boot, so that a device whose starter was killed can still be stopped.
        write_record(folder, record_of(process, port, hardware))

    process, record = start(
        image,
        hardware,
        port=port,
        console=console,
        boot_timeout_s=boot_timeout_s,
        started=note,
    )
    # It is another process's to wait for from here on.
    process.returncode = 0
    return record


def stop_all(folder: Path, *, port: int | None = None) -> list[Record]:
    """Ends the devices recorded in ``folder``, or the one on ``port``; gives those it ended.

    Raises:
        DeviceError: none runs on ``port``, or one does not end.
    """
    chosen = [record for record in records(folder) if port in (None, record.port)]
    if port is not None and not chosen:
        raise DeviceError(f"Emulated device 127.0.0.1:{port}: does not run, needed one to stop.")
    for record in chosen:
        record.stop()
        forget(folder, record)
    return chosen
