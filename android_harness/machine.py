"""The process that is an emulated device: its command line, its record on disk, its end.

A record, <folder>/<port>.json, lets another process find and stop a device. A process number alone
may be another's by then; its start time tells.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from android_harness.image import Image
from android_harness.programs import require_program
from dfnet.decoding import decode, read_json
from dfnet.errors import ArtifactError, DeviceError

_PATIENCE_S = 5.0
"""How long a process may take to end when asked, and again when killed."""


@dataclass(frozen=True)
class Hardware:
    """What is emulated.

    ``cpu`` is cortex-a76: a phone's class, with dot products and float16 arithmetic. With
    ``icount`` one core runs one instruction per nanosecond of its own clock, so that its times
    repeat; they count work and are no latency.
    """

    cpu: str = "cortex-a76"
    cores: int = 2
    memory_mb: int = 1024
    storage_mb: int = 400
    icount: bool = False

    def __post_init__(self) -> None:
        if (
            min(self.cores, self.memory_mb, self.storage_mb) < 1
            or self.storage_mb >= self.memory_mb
        ):
            raise DeviceError(
                f"Emulated device: got {self.cores} cores, {self.memory_mb} MB of memory and "
                f"{self.storage_mb} MB of storage, needed at least 1 of each and less storage than "
                "memory, since that is where it lies."
            )


def command_line(image: Image, hardware: Hardware, *, port: int, console: Path) -> list[str]:
    """The command that starts a device whose adbd is reachable at 127.0.0.1:``port`` alone.

    The device has no route out: adbd there asks nobody for a key.

    Raises:
        MissingDependencyError: qemu is not installed.
    """
    qemu = require_program(
        "qemu-system-aarch64", "qemu-system-arm", purpose="emulate an arm64 device"
    )
    network = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:5555"
    boot = f"console=ttyAMA0 panic=-1 quiet rdinit=/init storage_mb={hardware.storage_mb}"
    cores = 1 if hardware.icount else hardware.cores
    return [
        qemu,
        *("-no-user-config", "-nodefaults", "-display", "none", "-monitor", "none"),
        *("-machine", "virt", "-cpu", hardware.cpu, "-smp", str(cores)),
        *("-m", str(hardware.memory_mb)),
        *("-accel", f"tcg,thread={'single' if hardware.icount else 'multi'}"),
        *(("-icount", "shift=0,sleep=off") if hardware.icount else ()),
        *("-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", boot),
        *("-serial", f"file:{console}"),
        *("-netdev", network, "-device", "virtio-net-device,netdev=net"),
    ]


@dataclass(frozen=True)
class Record:
    """A device that runs, or ran: its process, when that started, and its port."""

    pid: int
    started: int
    port: int
    icount: bool

    @property
    def serial(self) -> str:
        """The name adb has for it."""
        return f"127.0.0.1:{self.port}"

    def alive(self) -> bool:
        return started_at(self.pid) == self.started

    def stop(self) -> None:
        """Ends the process for certain.

        Raises:
            DeviceError: not even a kill ends it.
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.alive():
                return
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
            deadline = time.monotonic() + _PATIENCE_S
            while self.alive() and time.monotonic() < deadline:
                time.sleep(0.02)
        if self.alive():
            raise DeviceError(f"Emulated device {self.serial}: process {self.pid} does not end.")


def started_at(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None when it is gone or only a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold spaces; the state and the rest follow the last one.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def write_record(folder: Path, record: Record) -> None:
    """Writes the record whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{record.port}.json.part"
    part.write_text(json.dumps(asdict(record)) + "\n")
    os.replace(part, folder / f"{record.port}.json")


def forget(folder: Path, record: Record) -> None:
    """Removes the record of a device that has ended."""
    (folder / f"{record.port}.json").unlink(missing_ok=True)


def records(folder: Path) -> Iterator[Record]:
    """Devices that run; records of others are removed."""
    for path in sorted(folder.glob("*.json")):
        try:
            record = decode(
                Record, read_json(path), f"Record {path}", page="android_harness/machine.py"
            )
        except ArtifactError:
            path.unlink(missing_ok=True)
            continue
        if record.alive():
            yield record
        else:
            path.unlink(missing_ok=True)
