"""Files to and from a device: whole or not at all, verified by sha256 on both sides.

A file goes in blocks to ``<name>.part``, which is renamed once its hash is right. A dropped
connection costs the block that was on its way.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from android_harness.adb import ConnectionLostError
from android_harness.sync import BLOCK_BYTES, pull_file, send_block
from android_harness.transport import ROOT, Transport
from dfnet.artifact import sha256_of
from dfnet.errors import DeviceError


def push(transport: Transport, local: Path, remote: str, *, executable: bool = False) -> bool:
    """Copies a file to the device; False if it stood there already. See ``push_all``."""
    return bool(push_all(transport, {remote: local}, executable=executable))


def push_all(
    transport: Transport, files: Mapping[str, Path], *, executable: bool = False
) -> list[str]:
    """Copies local files to their places on the device; gives the places that were written.

    What stands there already, by its hash, costs no transfer.

    Raises:
        DeviceError: the storage is full, or the device does not hold what was sent.
        ConnectionLostError: the device does not come back, or has lost what was sent.
    """
    needed = {remote: sha256_of(local) for remote, local in files.items()}
    there = transport.hashes(list(files))
    missing = [remote for remote in files if there.get(remote) != needed[remote]]
    if not missing:
        return []
    _require_space(transport, [files[remote] for remote in missing], missing[0])
    for remote in missing:
        transport.persist(partial(_send, transport, files[remote], _part(remote), executable))
    arrived = transport.hashes([_part(remote) for remote in missing])
    _require_hashes(transport, {r: arrived.get(_part(r)) for r in missing}, needed)
    # Those that a dropped connection left renamed already are passed over the second time.
    moves = "; ".join(shlex.join(["mv", "-f", _part(remote), remote]) for remote in missing)
    transport.persist(lambda: transport.run(["sh", "-c", moves]))
    there = transport.hashes(missing)
    _require_hashes(transport, {remote: there.get(remote) for remote in missing}, needed)
    return missing


def _part(remote: str) -> str:
    return f"{remote}.part"


def _require_hashes(
    transport: Transport, got: Mapping[str, str | None], needed: Mapping[str, str]
) -> None:
    for remote, digest in got.items():
        if digest is None:
            # Only a device that was rebooted loses what was sent without the connection telling.
            raise ConnectionLostError(
                f"{transport.subject}: {remote} is gone since it was sent, needed it there. Try "
                "again; check that the device does not reboot."
            )
        if digest != needed[remote]:
            raise DeviceError(
                f"{transport.subject}: {remote} arrived as {digest[:12]}, needed sha256 "
                f"{needed[remote][:12]}. Try again, with another cable if it persists."
            )


def pull(transport: Transport, remote: str, local: Path) -> None:
    """Copies a file from the device.

    Raises:
        DeviceError: there is no such file, or something else arrived than the device holds.
        ConnectionLostError: the device does not come back.
        ArtifactError: ``local`` cannot be written.
    """
    needed = transport.hashes([remote]).get(remote)
    if needed is None:
        raise DeviceError(f"{transport.subject}: {remote} is no file, needed one to fetch.")
    part = local.with_name(local.name + ".part")
    try:
        transport.persist(lambda: pull_file(transport.device(), transport.subject, remote, part))
        got = sha256_of(part)
        if got != needed:
            raise DeviceError(
                f"{transport.subject}: {remote} came as {got[:12]}, needed sha256 {needed[:12]}. "
                "Try again, with another cable if it persists."
            )
        os.replace(part, local)
    finally:
        part.unlink(missing_ok=True)


def _require_space(transport: Transport, files: Sequence[Path], remote: str) -> None:
    """Needs room for the files, and for the block that is added to the end of one."""
    sizes = [file.stat().st_size for file in files]
    needed = sum(sizes) + BLOCK_BYTES * (max(sizes) > BLOCK_BYTES)
    table = transport.query(["df", "-kP", remote.rpartition("/")[0]]).splitlines()
    cells = table[-1].split() if table else []
    if len(cells) < 4 or not cells[3].isdigit():
        return  # a df that answers otherwise; adbd itself says when the storage is full
    free = int(cells[3]) * 1024
    if free < needed:
        raise DeviceError(
            f"{transport.subject}: got {free / 1e6:.1f} MB of free storage, needed "
            f"{needed / 1e6:.1f} MB for {files[0].name}. Remove something from {ROOT}."
        )


def _send(transport: Transport, local: Path, part: str, executable: bool) -> None:
    """Sends what is missing of ``local``."""
    device, mode = transport.device(), 0o755 if executable else 0o644
    arrived = _arrived(transport, local, part) if local.stat().st_size > BLOCK_BYTES else 0
    with local.open("rb") as stream:
        if arrived == 0:
            send_block(device, transport.subject, stream.read(BLOCK_BYTES), part, mode)
        else:
            stream.seek(arrived)
        while block := stream.read(BLOCK_BYTES):
            send_block(device, transport.subject, block, f"{part}.block", mode)
            _append(transport, f"{part}.block", part)


def _append(transport: Transport, block: str, part: str) -> None:
    script = f"cat {shlex.quote(block)} >> {shlex.quote(part)} && rm {shlex.quote(block)}"
    done = transport.run(["sh", "-c", script])
    if done.code != 0:
        raise DeviceError(
            f"{transport.subject}: {part} cannot be written ({done.stderr.strip()[-200:]}), needed "
            "it there. Check that its storage has room."
        )


def _arrived(transport: Transport, local: Path, part: str) -> int:
    """Bytes of ``part`` that are the beginning of ``local``; 0 if it holds anything else."""
    size = transport.run(["stat", "-c", "%s", part])
    if size.code != 0 or not 0 < int(size.stdout) <= local.stat().st_size:
        return 0
    with local.open("rb") as stream:
        beginning = hashlib.sha256(stream.read(int(size.stdout))).hexdigest()
    there = transport.run(["sha256sum", part]).stdout[:64]
    return int(size.stdout) if there == beginning else 0
