"""The adb server of this machine, and which of its devices is meant."""

from __future__ import annotations

import socket
import subprocess
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from adbutils import AdbClient, AdbError, adb_path

from dfnet.errors import DeviceError, MissingDependencyError

READY = "device"
"""adb's word for a device that takes commands."""

_SERVER_TIMEOUT_S = 30.0

_ADVICE = {
    "unauthorized": "Unlock it and allow USB debugging for this computer.",
    "authorizing": "Wait a moment, then try again.",
    "offline": "Plug it in anew, or run: adb reconnect offline",
    "no permissions": "Give your user access to it (udev rules), then run: adb kill-server",
}
"""What to do about the states that adb's own documentation names."""


class ConnectionLostError(DeviceError):
    """The device or the adb server went away; trying again may help."""


@dataclass(frozen=True)
class Attached:
    """One line of ``adb devices``."""

    serial: str
    state: str


class _Client(AdbClient):  # type: ignore[misc]  # adbutils has no annotations
    """Closes its connections; adbutils forgets those that the server refuses."""

    def make_connection(self, timeout: float | None = None) -> Any:
        connection = super().make_connection(timeout)
        weakref.finalize(connection, connection.conn.close)
        return connection


def start_server() -> AdbClient:
    """A client of the adb server, which is started when none runs.

    The server's place is adb's own: ANDROID_ADB_SERVER_PORT, or 5037.

    Raises:
        MissingDependencyError: there is no adb.
        DeviceError: the server does not start.
    """
    client = _Client(socket_timeout=_SERVER_TIMEOUT_S)
    if not _listens(client.host, client.port):
        _launch()
    return client


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def _launch() -> None:
    try:
        program = adb_path()
    except AdbError as error:
        raise MissingDependencyError(
            "Program adb: got none, needed it to reach Android devices. Run: make setup"
        ) from error
    try:
        subprocess.run(
            [program, "start-server"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SERVER_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        raise DeviceError(
            f"adb server: got {' '.join(said.decode(errors='replace').split())[-300:]!r}, needed "
            "it to start. Run: adb start-server"
        ) from error


@contextmanager
def adb_failures(subject: str) -> Iterator[None]:
    """Turns whatever adb raises into this project's errors, which name ``subject``.

    Raises:
        ConnectionLostError: the device or the server does not answer.
    """
    try:
        yield
    except (AdbError, EOFError, OSError) as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConnectionLostError(
            f"{subject}: got no answer from adb ({said}), needed one. Check its cable and that it "
            "is awake."
        ) from error


def attached() -> tuple[Attached, ...]:
    """Every device that adb knows, usable or not.

    Raises:
        MissingDependencyError, DeviceError: see ``start_server``.
    """
    client = start_server()
    with adb_failures("adb server"):
        return tuple(Attached(one.serial, _state(one.state)) for one in client.list())


def _state(word: str) -> str:
    # adbutils keeps the first word of "no permissions (user in plugdev group; ...)".
    return "no permissions" if word == "no" else word


def choose_serial(serial: str | None) -> str:
    """The serial of the device that is meant, once it takes commands.

    ``serial`` None means the only one that is connected.

    Raises:
        DeviceError: none is connected, several are and none was chosen, or it takes no commands;
            says what to do.
        MissingDependencyError: there is no adb.
    """
    return chosen(attached(), serial).serial


def chosen(found: Sequence[Attached], serial: str | None) -> Attached:
    """See ``choose_serial``; ``found`` is what adb knows."""
    if serial is not None:
        found = _with_serial(found, serial)
    if not found:
        raise DeviceError(
            "Android device: got none connected, needed one. Connect a phone with USB debugging "
            "on, or start the emulated one: make emulator"
        )
    if len(found) > 1:
        raise DeviceError(
            f"{len(found)} Android devices are connected ({_listed(found)}), needed one. Choose "
            f"it: --serial {_best(found).serial}"
        )
    (only,) = found
    if only.state != READY:
        advice = _ADVICE.get(only.state, "Start Android on it, then try again.")
        raise DeviceError(
            f"Android device {only.serial}: got the state {only.state!r}, needed {READY!r}. "
            f"{advice}"
        )
    return only


def _with_serial(found: Sequence[Attached], serial: str) -> list[Attached]:
    of_that_name = [one for one in found if one.serial == serial]
    if not of_that_name:
        raise DeviceError(
            f"Android device {serial!r}: not connected; adb knows {_listed(found) or 'none'}. "
            "Choose one of these with --serial, or connect it."
        )
    return of_that_name


def _best(found: Sequence[Attached]) -> Attached:
    return next((one for one in found if one.state == READY), found[0])


def _listed(found: Sequence[Attached]) -> str:
    """Serials, with the state of those that take no commands."""
    return ", ".join(
        one.serial if one.state == READY else f"{one.serial} {one.state}" for one in found
    )
