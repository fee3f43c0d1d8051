"""One Android device through adb: commands with true exit codes, and folders that are removed.

Every command names the device by its serial. ``android_harness.transfer`` moves files.
"""

from __future__ import annotations

import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from adbutils import AdbTimeout

from android_harness.adb import READY, ConnectionLostError, adb_failures, attached, start_server
from android_harness.shell import TIMED_OUT, guarded
from dfnet.errors import DeviceError

ROOT = "/data/local/tmp"
"""The one folder of a phone where adb's shell may write and execute."""

PREFIX = "dfnet-"
"""What the names of this project's folders in ``ROOT`` begin with."""

_ATTEMPTS = 4
_GRACE_S = 5.0
"""A command that took too long has this long to end by itself."""

_HEARTBEAT_S = 5.0
_SILENCE_S = 15.0
"""A device that counts instructions answers within 2 s, however busy it is."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Completed:
    """What a command on the device ended with."""

    code: int
    stdout: str
    stderr: str


class Transport:
    """The device of one serial. ``timeout_s`` is for one answer or block, not a whole file.

    ``patience_s`` is how long a device that went away is waited for: as long as it takes to boot.
    """

    def __init__(self, serial: str, *, timeout_s: float = 60.0, patience_s: float = 120.0) -> None:
        self.serial = serial
        self._timeout_s = timeout_s
        self._patience_s = patience_s

    @property
    def subject(self) -> str:
        return f"Android device {self.serial}"

    def device(self) -> Any:
        """The device as adbutils sees it, for moving files.

        Raises:
            ConnectionLostError: adb does not know it, or not any more.
            DeviceError: it is too old to tell exit codes.
        """
        with adb_failures(self.subject):
            device = start_server().device(self.serial)
            features = device.get_features().split(",")
        # Without it adbutils would quietly guess exit codes from the output.
        if "shell_v2" not in features:
            raise DeviceError(
                f"{self.subject}: got an adbd without shell_v2, needed it for true exit codes. "
                "Use Android 7 or newer."
            )
        return device

    def run(
        self, words: Sequence[str], *, timeout_s: float | None = None, folder: str | None = None
    ) -> Completed:
        """Runs a command once, in ``folder``; each word reaches it as it is.

        The device itself ends a command after ``timeout_s``.

        Raises:
            ConnectionLostError: the connection broke meanwhile; the command may still run.
            DeviceError: the command took too long.
        """
        limit = timeout_s or self._timeout_s
        command = self._command(words, limit, folder)
        try:
            device = self.device()
            with self._heartbeat(), adb_failures(self.subject):
                done = device.shell2(command, timeout=limit + 6 * _GRACE_S, v2=True)
        except ConnectionLostError as error:
            if isinstance(error.__cause__, AdbTimeout):
                raise self._too_long(words, limit) from error
            raise
        if done.returncode == TIMED_OUT:
            raise self._too_long(words, limit)
        return Completed(done.returncode, done.stdout, done.stderr)

    def query(self, words: Sequence[str], *, folder: str | None = None) -> str:
        """Standard output of a command that may run twice; tried again when the connection drops.

        Raises:
            DeviceError: it ends with another code than 0; shows what it said.
        """
        done = self.persist(lambda: self.run(words, folder=folder))
        if done.code != 0:
            said = " ".join((done.stderr or done.stdout).split())[-300:] or "no message"
            raise DeviceError(
                f"{self.subject}: `{shlex.join(words)[:120]}` ended with {done.code} ({said}), "
                "needed 0."
            )
        return done.stdout

    def persist(self, action: Callable[[], _T]) -> _T:
        """The result of ``action``, which is begun again whenever the connection drops.

        Raises:
            ConnectionLostError: it dropped every time, or the device does not come back.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return action()
            except ConnectionLostError:
                self.reconnect()
        return action()

    def reconnect(self) -> None:
        """Waits until the device takes commands again, starting the adb server if need be.

        Raises:
            ConnectionLostError: it does not come back.
            DeviceError: it came back but must be unlocked first.
        """
        deadline = time.monotonic() + self._patience_s
        while time.monotonic() < deadline:
            with suppress(ConnectionLostError):
                if self._answers():
                    return
            time.sleep(0.5)
        raise ConnectionLostError(
            f"{self.subject}: gone for {self._patience_s:.0f} s, needed it back. Check its cable "
            "and that it is awake, then try again."
        )

    def hashes(self, paths: Sequence[str]) -> dict[str, str]:
        """Hex sha256 of those of ``paths`` that are files on the device."""
        if not paths:
            return {}
        found = self.persist(lambda: self.run(["sha256sum", *paths]))
        pairs = (line.partition("  ") for line in found.stdout.splitlines())
        return {name: digest for digest, _, name in pairs if name in paths}

    def remove(self, remote: str) -> None:
        """Removes a file or a folder of this project's, which need not exist.

        Raises:
            DeviceError: it lies elsewhere, or stays.
        """
        if not remote.startswith(f"{ROOT}/{PREFIX}") or ".." in remote.split("/"):
            raise DeviceError(f"{self.subject}: {remote} is not this project's to remove.")
        self.query(["rm", "-rf", remote])

    @contextmanager
    def scratch(self, name: str = "job") -> Iterator[str]:
        """A new folder on the device; it and every process that names it end with the block."""
        path = f"{ROOT}/{PREFIX}{name}-{secrets.token_hex(8)}"
        try:
            self.query(["mkdir", path])
            yield path
        except BaseException as error:
            try:
                self._tidy(path)
            except DeviceError as also:
                error.add_note(f"{path} may be left on the device ({also})")
            raise
        self._tidy(path)

    def stop(self, folder: str) -> None:
        """Kills every process with ``folder`` among its arguments."""
        # A class of one letter keeps the pattern from matching the command that holds it.
        name = folder.removeprefix(f"{ROOT}/")
        found = self.persist(lambda: self.run(["pgrep", "-f", f"[{name[0]}]{name[1:]}"]))
        if found.code not in (0, 1):
            raise DeviceError(
                f"{self.subject}: pgrep ended with {found.code} ({found.stderr.strip()[-200:]}), "
                "needed 0 or 1."
            )
        if numbers := found.stdout.split():
            # Their children need not name the folder.
            parents = ",".join(numbers)
            children = self.persist(lambda: self.run(["pgrep", "-P", parents])).stdout.split()
            # Some may have ended by themselves meanwhile, which makes kill fail.
            self.persist(lambda: self.run(["kill", "-KILL", *numbers, *children]))

    def _tidy(self, path: str) -> None:
        self.stop(path)
        self.remove(path)

    @contextmanager
    def _heartbeat(self) -> Iterator[None]:
        """Over TCP, notices a device that was rebooted: it says nothing until it is spoken to.

        One that stays silent is disconnected, which ends what is waited for: TCP itself would take
        minutes. Over USB the connection ends by itself, and nothing is sent that could disturb
        what is timed.
        """
        over = threading.Event()

        def beat() -> None:
            while not over.wait(_HEARTBEAT_S):
                answered = threading.Event()
                threading.Thread(target=self._ping, args=(answered,), daemon=True).start()
                if not answered.wait(_SILENCE_S) and not over.is_set():
                    with suppress(DeviceError), adb_failures(self.subject):
                        start_server().disconnect(self.serial)
                    return

        if ":" in self.serial:
            threading.Thread(target=beat, daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _ping(self, answered: threading.Event) -> None:
        """Sets ``answered`` once the device has answered, or its connection has ended."""
        with suppress(DeviceError), adb_failures(self.subject):
            self.device().sync.stat("/")
        answered.set()

    def _command(self, words: Sequence[str], limit: float, folder: str | None) -> str:
        if not words or any("\0" in word for word in words):
            raise DeviceError(f"{self.subject}: got the command {list(words)!r}, needed words.")
        return guarded(words, limit_s=limit, grace_s=_GRACE_S, folder=folder)

    def _too_long(self, words: Sequence[str], limit: float) -> DeviceError:
        return DeviceError(
            f"{self.subject}: `{shlex.join(words)[:120]}` took over {limit:.0f} s and was ended, "
            "needed less. Check that the device is idle, or allow more time."
        )

    def _answers(self) -> bool:
        state = next((one.state for one in attached() if one.serial == self.serial), None)
        if state == "unauthorized":
            raise DeviceError(
                f"{self.subject}: came back unauthorized, needed it as before. Unlock it and "
                "allow USB debugging for this computer."
            )
        client = start_server()
        if ":" in self.serial and state != READY:
            with adb_failures(self.subject):
                client.disconnect(self.serial)
                client.connect(self.serial, timeout=_GRACE_S)
        try:
            return self.run(["true"], timeout_s=_GRACE_S).code == 0
        except DeviceError:
            # adb goes on listing a device that was rebooted until its connection is ended.
            if ":" in self.serial:
                with adb_failures(self.subject):
                    client.disconnect(self.serial)
            return False
