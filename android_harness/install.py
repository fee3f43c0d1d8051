"""A bundle of native runners on a device, for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from android_harness.bundle import Bundle
from android_harness.transfer import push_all
from android_harness.transport import Transport


@dataclass(frozen=True)
class InstalledBundle:
    """``bundle`` in ``folder`` of the device behind ``transport``; several runners may share it."""

    transport: Transport
    bundle: Bundle
    folder: str

    def restore(self) -> None:
        """Pushes what is not there: everything at first and after a reboot that emptied it.

        Raises:
            DeviceError: see ``transfer.push``.
        """
        files = self.bundle.manifest.files
        places = {name: f"{self.folder}/{name}" for name in files}
        there = self.transport.hashes(list(places.values()))
        missing = [name for name in files if there.get(places[name]) != files[name]]
        folders = sorted({places[name].rpartition("/")[0] for name in missing})
        if folders:
            self.transport.query(["mkdir", "-p", *folders])
        local = {places[name]: self.bundle.folder / name for name in missing}
        push_all(self.transport, local, executable=True)


@contextmanager
def installed(transport: Transport, bundle: Bundle) -> Iterator[InstalledBundle]:
    """Puts ``bundle`` on the device; removes it, and kills what runs from it, at the end.

    Raises:
        DeviceError: the device has no room, or does not come back.
    """
    with transport.scratch("bundle") as folder:
        found = InstalledBundle(transport, bundle, folder)
        found.restore()
        yield found
