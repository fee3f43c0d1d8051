"""adb's file transfer, block by block, with the device's own words when it refuses.

SYNC.TXT of AOSP's packages/modules/adb describes the protocol. adbutils sends files too, but
neither hears why a device refuses one nor gives up on a device that no longer reads.
"""

from __future__ import annotations

import stat
import struct
import time
from pathlib import Path
from typing import Any

from android_harness.adb import ConnectionLostError, adb_failures
from dfnet.errors import ArtifactError, DeviceError

BLOCK_BYTES = 4 << 20
"""What a dropped connection costs at most."""

_CHUNK_BYTES = 64 << 10
"""SYNC_DATA_MAX of the protocol."""

_TIMEOUT_S = 60.0


def send_block(device: Any, subject: str, data: bytes, remote: str, mode: int) -> None:
    """Writes ``data`` to the file ``remote``, which then holds nothing else.

    Raises:
        ConnectionLostError: the connection broke.
        DeviceError: the device refuses; says why.
    """
    with adb_failures(subject), device.open_transport(timeout=_TIMEOUT_S) as connection:
        connection.send_command("sync:")
        connection.check_okay()
        target = f"{remote},{stat.S_IFREG | mode}".encode()
        try:
            connection.conn.sendall(b"SEND" + struct.pack("<I", len(target)) + target)
            for start in range(0, len(data), _CHUNK_BYTES):
                chunk = data[start : start + _CHUNK_BYTES]
                connection.conn.sendall(b"DATA" + struct.pack("<I", len(chunk)) + chunk)
            connection.conn.sendall(b"DONE" + struct.pack("<I", int(time.time())))
        except (BrokenPipeError, ConnectionResetError):
            # A device that refuses says why and hangs up while this side still sends.
            pass
        _require_okay(connection, subject, remote)


def _require_okay(connection: Any, subject: str, remote: str) -> None:
    status, length = connection.read_exact(4), connection.read_uint32()
    if status == b"OKAY":
        return
    if status != b"FAIL":
        raise ConnectionLostError(f"{subject}: got {status!r} while sending {remote}.")
    raise DeviceError(
        f"{subject}: refuses {remote} ({connection.read_string(length)}), needed it there. Check "
        "that its storage has room."
    )


def pull_file(device: Any, subject: str, remote: str, local: Path) -> None:
    """Writes the file ``remote`` of the device to ``local``.

    Raises:
        ConnectionLostError: the connection broke, or the device does not give the file.
        ArtifactError: ``local`` cannot be written.
    """
    try:
        stream = local.open("wb")
    except OSError as error:
        raise ArtifactError(
            f"Output {local}: cannot be written ({error.strerror}). Choose a writable folder."
        ) from error
    with stream, adb_failures(subject):
        for block in device.sync.iter_content(remote):
            stream.write(block)
