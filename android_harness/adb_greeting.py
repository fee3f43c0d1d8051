"""Asking a TCP port whether an adbd answers there, without an adb server.

A connection alone proves nothing: the emulator accepts it before the device is up. adbd answers the
protocol's first message (AOSP: packages/modules/adb/protocol.txt).
"""

from __future__ import annotations

import socket
import struct

_HEADER = struct.Struct("<6I")
_CONNECT = 0x4E584E43
_AUTHENTICATE = 0x48545541
_START_TLS = 0x534C5453
_VERSION = 0x01000000
_MOST_BYTES = 4096
_BANNER = b"host::\0"


def adbd_answers(port: int, *, timeout_s: float) -> bool:
    """Whether an adbd on 127.0.0.1:``port`` answers within ``timeout_s`` seconds."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
            checksum = sum(_BANNER)
            fields = (_CONNECT, _VERSION, _MOST_BYTES, len(_BANNER), checksum)
            connection.sendall(_HEADER.pack(*fields, _CONNECT ^ 0xFFFFFFFF) + _BANNER)
            return _first_word(connection) in (_CONNECT, _AUTHENTICATE, _START_TLS)
    except OSError:
        return False


def _first_word(connection: socket.socket) -> int:
    got = b""
    while len(got) < _HEADER.size:
        block = connection.recv(_HEADER.size - len(got))
        if not block:
            return 0
        got += block
    command: int = _HEADER.unpack(got)[0]
    return command
