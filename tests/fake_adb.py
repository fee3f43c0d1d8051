"""An adb server with one device that is a folder of this machine, and that fails on request.

It speaks the server's protocol (AOSP's SERVICES.TXT and SYNC.TXT) and runs commands with this
machine's own shell, so that everything but adb and Android is real.
"""

from __future__ import annotations

import os
import socket
import socketserver
import struct
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

SERIAL = "FAKE1"


@dataclass
class Faults:
    """What goes wrong; each counts down or is used up once."""

    drop_sends: list[int] = field(default_factory=list)
    """Bytes of a transfer after which its connection drops."""
    drop_shells: int = 0
    """Commands whose connection drops before they run."""
    drop_runs: int = 0
    """Native runners whose connection drops while they run on."""
    corrupt_sends: int = 0
    truncate_receives: int = 0
    refuse_send: str | None = None


class FakeAdb:
    """The server, on a port of its own; ``states`` is what ``adb devices`` shows."""

    def __init__(self, tools: Path, *, features: str = "shell_v2,cmd") -> None:
        self.faults, self.features = Faults(), features
        self.states = {SERIAL: "device"}
        self.commands: list[str] = []
        self.on_drop: Callable[[], object] = lambda: None
        self.received_bytes = 0
        self.environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[socketserver.BaseRequestHandler]:
        fake = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(ConnectionError, EOFError):
                    fake.serve(self.request)

        return Handler

    def serve(self, client: socket.socket) -> None:
        while True:
            command = read(client, int(read(client, 4), 16)).decode()
            if command == "host:version":
                return answer(client, "0029")
            if command == "host:devices":
                rows = (f"{serial}\t{state}\n" for serial, state in self.states.items())
                return answer(client, "".join(rows))
            if command.endswith(":features"):
                return answer(client, self.features)
            if command.startswith("host:tport:serial:"):
                client.sendall(b"OKAY" + struct.pack("<Q", 1))
            elif command.startswith("shell,v2:"):
                return self._shell(client, command.removeprefix("shell,v2:"))
            elif command == "sync:":
                client.sendall(b"OKAY")
                return self._sync(client)
            else:
                return fail(client, f"unknown: {command}")

    def _shell(self, client: socket.socket, command: str) -> None:
        self.commands.append(command)
        if self.faults.drop_shells:
            self.faults.drop_shells -= 1
            return
        client.sendall(b"OKAY")
        if self.faults.drop_runs and "_runner" in command:
            self.faults.drop_runs -= 1
            self.on_drop()
            return
        done = subprocess.run(
            ["sh", "-c", command],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        for number, data in ((1, done.stdout), (2, done.stderr)):
            if data:
                client.sendall(struct.pack("<BI", number, len(data)) + data)
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        client.sendall(struct.pack("<BIB", 3, 1, code))

    def _sync(self, client: socket.socket) -> None:
        kind, length = struct.unpack("<4sI", read(client, 8))
        path = read(client, length).decode()
        if kind == b"SEND":
            place, _, mode = path.rpartition(",")
            self._receive(client, Path(place), int(mode) & 0o777)
        else:
            self._give(client, Path(path))

    def _receive(self, client: socket.socket, path: Path, mode: int) -> None:
        limit = self.faults.drop_sends.pop(0) if self.faults.drop_sends else None
        data = b""
        while True:
            kind, length = struct.unpack("<4sI", read(client, 8))
            if kind == b"DONE":
                break
            data += read(client, length)
            self.received_bytes += length
            if limit is not None and len(data) > limit:
                return  # as adbd does, what came is not kept
        if self.faults.refuse_send is not None:
            message = self.faults.refuse_send.encode()
            client.sendall(b"FAIL" + struct.pack("<I", len(message)) + message)
            return
        if self.faults.corrupt_sends:
            self.faults.corrupt_sends -= 1
            data = bytes([data[0] ^ 1]) + data[1:]
        path.write_bytes(data)
        path.chmod(mode)
        client.sendall(b"OKAY" + struct.pack("<I", 0))

    def _give(self, client: socket.socket, path: Path) -> None:
        data = path.read_bytes()
        if self.faults.truncate_receives:
            self.faults.truncate_receives -= 1
            data = data[:-4]
        for start in range(0, len(data), 1 << 16):
            chunk = data[start : start + (1 << 16)]
            client.sendall(b"DATA" + struct.pack("<I", len(chunk)) + chunk)
        client.sendall(b"DONE" + struct.pack("<I", 0))


def read(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = client.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def answer(client: socket.socket, text: str) -> None:
    client.sendall(b"OKAY" + f"{len(text):04x}{text}".encode())


def fail(client: socket.socket, text: str) -> None:
    client.sendall(b"FAIL" + f"{len(text):04x}{text}".encode())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
