"""Devices by what the command line calls them: an emulated one, or a phone by its serial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from android_harness.adb import adb_failures, choose_serial, start_server
from android_harness.emulator import Emulator
from android_harness.image import Image
from android_harness.machine import Hardware
from android_harness.transport import Transport
from dfnet.errors import DeviceError

EMULATOR = "emulator"
"""Stands for a device that is booted for the command and shut down after it."""


def phone(serial: str | None) -> Transport:
    """The connected device ``serial``; None means the only one.

    Raises:
        DeviceError, MissingDependencyError: see ``adb.choose_serial``.
    """
    return Transport(choose_serial(serial))


@contextmanager
def emulated(image: Image, hardware: Hardware | None = None) -> Iterator[Transport]:
    """A booted device that adb knows, gone at the end.

    Raises:
        MissingDependencyError, DeviceError: see ``Emulator``.
    """
    with Emulator(image, hardware=hardware) as emulator:
        transport = Transport(emulator.serial)
        try:
            transport.reconnect()
            yield transport
        finally:
            with suppress(DeviceError), adb_failures(transport.subject):
                start_server().disconnect(emulator.serial)
