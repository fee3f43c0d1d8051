"""Choosing a device, commands and files through adb, and connections that break."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from adbutils import adb_path

from android_harness.adb import Attached, ConnectionLostError, attached, choose_serial, chosen
from android_harness.sync import BLOCK_BYTES
from android_harness.transfer import pull, push, push_all
from android_harness.transport import Transport
from dfnet.errors import DeviceError

from fake_adb import SERIAL, FakeAdb, free_port


@pytest.mark.parametrize(
    ("found", "serial", "told"),
    [
        ([], None, "got none connected, needed one.*make emulator"),
        ([("a", "device"), ("b", "device")], None, r"2 .* \(a, b\), needed one.*--serial a$"),
        ([("a", "offline"), ("b", "device")], None, r"\(a offline, b\).*--serial b$"),
        ([("a", "device")], "c", "'c': not connected; adb knows a"),
        ([], "c", "'c': not connected; adb knows none"),
        ([("a", "unauthorized")], None, "a: got the state 'unauthorized'.*allow USB debugging"),
        ([("a", "offline")], "a", "a: got the state 'offline'.*adb reconnect offline"),
        ([("a", "no permissions")], None, "udev"),
        ([("a", "recovery")], None, "'recovery'.*Start Android"),
    ],
)
def test_no_device_is_guessed(found: list[tuple[str, str]], serial: str | None, told: str) -> None:
    with pytest.raises(DeviceError, match=told):
        chosen([Attached(*one) for one in found], serial)


def test_the_only_device_is_meant_and_any_other_by_its_serial() -> None:
    both = [Attached("a", "device"), Attached("b", "unauthorized")]
    assert chosen(both[:1], None).serial == "a"
    assert chosen(both, "a").serial == "a"


def test_a_real_adb_server_without_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port()))
    try:
        assert attached() == ()
        with pytest.raises(DeviceError, match="got none connected"):
            choose_serial(None)
        with pytest.raises(ConnectionLostError, match="gone for 1 s"):
            Transport("nowhere", patience_s=1).query(["true"])
    finally:
        subprocess.run([adb_path(), "kill-server"], check=True, capture_output=True)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAdb]:
    with FakeAdb(tmp_path) as server:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
        yield server


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The device's /data/local/tmp."""
    folder = tmp_path / "device"
    folder.mkdir()
    monkeypatch.setattr("android_harness.transport.ROOT", str(folder))
    return folder


@pytest.fixture
def transport(fake: FakeAdb, root: Path) -> Transport:
    return Transport(SERIAL, patience_s=5)


def test_states_come_from_adb(fake: FakeAdb) -> None:
    fake.states = {"x": "unauthorized", "y": "no permissions (user in plugdev group)"}
    assert [one.state for one in attached()] == ["unauthorized", "no permissions"]


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_codes_are_true(transport: Transport, code: int) -> None:
    done = transport.run(["sh", "-c", f"echo out; echo err >&2; exit {code}"])
    assert (done.code, done.stdout, done.stderr) == (code, "out\n", "err\n")


def test_words_reach_the_command_as_they_are(transport: Transport) -> None:
    words = ["a b", "$(id)", "`id`", "; id", "'\"", "*", "-n", "a\nb", ""]
    assert transport.query(["printf", "%s|", *words]) == "|".join(words) + "|"


def test_a_command_of_no_words_or_a_null_is_refused(transport: Transport) -> None:
    for words in ([], ["a\0b"]):
        with pytest.raises(DeviceError, match="needed words"):
            transport.run(words)


def test_a_command_that_fails_shows_what_it_said(transport: Transport) -> None:
    with pytest.raises(DeviceError, match="ended with 3 \\(no such luck\\), needed 0"):
        transport.query(["sh", "-c", "echo no such luck >&2; exit 3"])


def test_a_command_that_hangs_is_ended_on_the_device(transport: Transport) -> None:
    with pytest.raises(DeviceError, match="took over 1 s and was ended"):
        transport.run(["sleep", "1234"], timeout_s=1)
    assert transport.run(["pgrep", "-f", "[s]leep 1234"]).code == 1


def test_a_command_that_does_not_heed_it_is_killed(transport: Transport, root: Path) -> None:
    deaf = f"trap '' ALRM; : {root}; while true; do sleep 0.1; done"
    assert transport.run(["sh", "-c", deaf], timeout_s=1).code == 137
    assert transport.run(["pgrep", "-f", f"[:] {root}"]).code == 1


def test_the_guard_of_a_command_ends_with_it(transport: Transport) -> None:
    transport.run(["true"], timeout_s=4321)
    assert transport.run(["pgrep", "-f", "[s]leep 4321"]).code == 1


@pytest.mark.parametrize("signal", ["KILL", "TERM", "SEGV"])
def test_a_command_that_was_killed_says_so(transport: Transport, signal: str) -> None:
    numbers = {"KILL": 9, "TERM": 15, "SEGV": 11}
    done = transport.run(["sh", "-c", f"kill -{signal} $$"])
    assert done.code == 128 + numbers[signal]


def test_an_adbd_without_true_exit_codes_is_refused(transport: Transport, fake: FakeAdb) -> None:
    fake.features = "cmd"
    with pytest.raises(DeviceError, match="without shell_v2"):
        transport.run(["true"])


def test_a_query_is_asked_again_after_a_drop(transport: Transport, fake: FakeAdb) -> None:
    fake.faults.drop_shells = 2
    assert transport.query(["echo", "here"]) == "here\n"


def test_a_run_is_not(transport: Transport, fake: FakeAdb) -> None:
    fake.faults.drop_shells = 1
    with pytest.raises(ConnectionLostError):
        transport.run(["true"])


def test_a_device_that_comes_back_unauthorized_is_not_waited_for(
    transport: Transport, fake: FakeAdb
) -> None:
    fake.faults.drop_shells = 1
    fake.states = {SERIAL: "unauthorized"}
    with pytest.raises(DeviceError, match="came back unauthorized"):
        transport.query(["true"])


def content(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_a_file_goes_there_and_back(
    transport: Transport, root: Path, tmp_path: Path, size: int
) -> None:
    (tmp_path / "file").write_bytes(content(size))
    place = f"{root}/a $(id) 'b'.bin"
    assert push(transport, tmp_path / "file", place, executable=True)
    assert Path(place).read_bytes() == content(size)
    assert Path(place).stat().st_mode & 0o777 == 0o755
    pull(transport, place, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content(size)
    assert [path.name for path in root.iterdir()] == [Path(place).name]


def test_what_is_there_is_not_sent_again(
    transport: Transport, fake: FakeAdb, root: Path, tmp_path: Path
) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(content(1000 + ord(name)))
    files = {f"{root}/{name}": tmp_path / name for name in "ab"}
    assert push_all(transport, files) == list(files)
    (root / "b").write_bytes(b"something else")
    before = fake.received_bytes
    assert push_all(transport, files) == [f"{root}/b"]
    assert fake.received_bytes - before == (tmp_path / "b").stat().st_size


def test_a_dropped_push_goes_on_where_it_broke(
    transport: Transport, fake: FakeAdb, root: Path, tmp_path: Path
) -> None:
    data = content(3 * BLOCK_BYTES)
    (tmp_path / "file").write_bytes(data)
    fake.faults.drop_sends = [2 * BLOCK_BYTES, BLOCK_BYTES // 2]
    assert push(transport, tmp_path / "file", f"{root}/file")
    assert (root / "file").read_bytes() == data
    assert fake.received_bytes < len(data) + BLOCK_BYTES


def test_a_push_that_always_drops_is_an_error_and_leaves_no_file(
    transport: Transport, fake: FakeAdb, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content(100))
    fake.faults.drop_sends = [10] * 10
    with pytest.raises(ConnectionLostError):
        push(transport, tmp_path / "file", f"{root}/file")
    assert not (root / "file").exists()


def test_a_file_that_arrives_altered_is_refused(
    transport: Transport, fake: FakeAdb, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content(100))
    fake.faults.corrupt_sends = 1
    with pytest.raises(DeviceError, match="arrived as .*needed sha256"):
        push(transport, tmp_path / "file", f"{root}/file")
    assert not (root / "file").exists()


def test_a_device_that_refuses_a_file_says_why(
    transport: Transport, fake: FakeAdb, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content(100))
    fake.faults.refuse_send = "couldn't write: No space left on device"
    with pytest.raises(DeviceError, match="No space left on device"):
        push(transport, tmp_path / "file", f"{root}/file")


def test_a_full_storage_is_noticed_before_anything_is_sent(
    transport: Transport, fake: FakeAdb, root: Path, tmp_path: Path
) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(1000)
    tool = tmp_path / "df"
    tool.write_text("#!/bin/sh\necho 'Filesystem 1024-blocks Used Available'\necho 'd 10 10 0'\n")
    tool.chmod(0o755)
    with pytest.raises(DeviceError, match=r"got 0.0 MB of free storage, needed 0.0 MB for huge"):
        push(transport, tmp_path / "huge", f"{root}/huge")
    assert fake.received_bytes == 0


def test_a_pull_that_comes_short_is_refused(
    transport: Transport, fake: FakeAdb, root: Path, tmp_path: Path
) -> None:
    (root / "file").write_bytes(content(100))
    fake.faults.truncate_receives = 1
    with pytest.raises(DeviceError, match="came as .*needed sha256"):
        pull(transport, f"{root}/file", tmp_path / "back")
    assert not list(tmp_path.glob("back*"))


def test_a_pull_of_nothing_is_an_error(transport: Transport, root: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="is no file"):
        pull(transport, f"{root}/file", tmp_path / "back")


def test_a_scratch_folder_ends_with_its_block_and_its_processes(
    transport: Transport, root: Path
) -> None:
    with pytest.raises(KeyError), transport.scratch() as folder:
        # The folder's name among its arguments is what makes a process the folder's.
        orphan = subprocess.Popen(["sh", "-c", "sleep 60; true", folder])
        raise KeyError
    assert orphan.wait(10) == -9
    assert list(root.iterdir()) == []


def test_a_folder_that_cannot_be_removed_does_not_hide_the_error(
    transport: Transport, fake: FakeAdb
) -> None:
    with pytest.raises(KeyError) as error_info, transport.scratch():
        fake.states = {SERIAL: "unauthorized"}
        fake.faults.drop_shells = 100
        raise KeyError
    assert "may be left on the device" in error_info.value.__notes__[0]


@pytest.mark.parametrize("place", ["{root}", "/", "{root}/other", "{root}/dfnet-x/../y"])
def test_nothing_else_is_ever_removed(transport: Transport, root: Path, place: str) -> None:
    (root / "other").mkdir()
    with pytest.raises(DeviceError, match="not this project's"):
        transport.remove(place.format(root=root))
    assert (root / "other").exists()


def test_the_tools_the_fake_device_borrows_are_here() -> None:
    assert all(map(shutil.which, ("sha256sum", "pgrep", "stat", "df")))
