"""Booting an emulated device: a free port, a process, and an adbd that answers."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from android_harness.adb_greeting import adbd_answers
from android_harness.image import Image
from android_harness.machine import Hardware, Record, command_line, started_at
from dfnet.errors import DeviceError

BOOT_TIMEOUT_S = 180.0
"""A boot takes 5 to 10 s alone on a machine of two cores, and several times that on a busy one."""

DEFAULT_PORT = 7655
"""Of the device that ``make emulator`` starts. Not 5555 to 5585: there adb finds a device by itself
and lists it a second time, under another name."""

_ADB_OWN_PORTS = range(5554, 5587)
_ATTEMPTS = 3


def start(
    image: Image,
    hardware: Hardware,
    *,
    port: int | None,
    console: Path,
    boot_timeout_s: float,
    started: Callable[[subprocess.Popen[bytes]], None],
) -> tuple[subprocess.Popen[bytes], Record]:
    """Boots a device and waits for its adbd; calls ``started`` as soon as its process stands.

    Raises:
        MissingDependencyError: qemu is not installed.
        DeviceError: it does not boot; nothing of it is left.
    """
    for attempt in range(_ATTEMPTS if port is None else 1):
        chosen = _free_port() if port is None else _require_free(port)
        process = _launch(image, hardware, chosen, console)
        try:
            started(process)
            record = record_of(process, chosen, hardware)
            _await_adbd(process, chosen, console, boot_timeout_s)
            return process, record
        except BaseException as error:
            # Another process may have taken the port between our look and qemu's.
            taken = process.poll() is not None and "host forwarding" in _text_of(_errors(console))
            end(process)
            if not (taken and isinstance(error, DeviceError)) or attempt == _ATTEMPTS - 1:
                raise
    raise DeviceError(f"Emulated device: got no free port in {_ATTEMPTS} attempts. Try again.")


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a device's process for certain and waits for it."""
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _launch(image: Image, hardware: Hardware, port: int, console: Path) -> subprocess.Popen[bytes]:
    console.unlink(missing_ok=True)
    command = command_line(image, hardware, port=port, console=console)
    with _errors(console).open("wb") as errors:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is ours to answer, by ending it in order
        )


def record_of(process: subprocess.Popen[bytes], port: int, hardware: Hardware) -> Record:
    """What lets another process find and stop this one."""
    return Record(process.pid, started_at(process.pid) or 0, port, hardware.icount)


def _await_adbd(
    process: subprocess.Popen[bytes], port: int, console: Path, timeout_s: float
) -> None:
    deadline = time.monotonic() + timeout_s
    while not adbd_answers(port, timeout_s=2.0):
        if process.poll() is not None:
            said = " ".join(_text_of(_errors(console)).split())[-300:] or "no message"
            raise DeviceError(
                f"Emulated device 127.0.0.1:{port}: qemu ended with {process.returncode} ({said}), "
                "needed a device that runs."
            )
        if time.monotonic() > deadline:
            last = " ".join(_text_of(console).split())[-300:] or "empty"
            raise DeviceError(
                f"Emulated device 127.0.0.1:{port}: got no answer from adbd in {timeout_s:.0f} s "
                f"(console: {last}), needed one. Try again on a machine that is less busy."
            )
        time.sleep(0.1)


def _errors(console: Path) -> Path:
    return console.with_suffix(".errors")


def _text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _ADB_OWN_PORTS:
            return port


def _require_free(port: int) -> int:
    if port in _ADB_OWN_PORTS:
        raise DeviceError(
            f"Port {port}: got one that adb searches for devices itself and would list twice, "
            f"needed one outside {_ADB_OWN_PORTS[0]} to {_ADB_OWN_PORTS[-1]}. Try {DEFAULT_PORT}."
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DeviceError(
                f"Port {port}: cannot be used ({error.strerror}), needed a free one. "
                "Choose another --port."
            ) from error
    return port
