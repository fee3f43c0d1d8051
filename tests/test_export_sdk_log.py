"""The SDKs' output goes to the log, ours to the user, and the descriptors come back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dfnet.console import Progress, progress_console
from export.sdk_log import sdk_log

ROOT = Path(__file__).resolve().parent.parent

SPEAK = """
import ctypes, os, sys
from pathlib import Path
from export.sdk_log import sdk_log

def speak(word):
    print(f"python {word}")
    print(f"warning {word}", file=sys.stderr)
    ctypes.CDLL(None).printf(f"c {word}\\n".encode())
    os.write(2, f"descriptor {word}\\n".encode())

log, inner = Path(sys.argv[1]), Path(sys.argv[2])
speak("before")
with sdk_log(log):
    speak("inside")
    with sdk_log(inner):
        speak("deeper")
    speak("again")
speak("after")
"""
WAYS = ("python", "warning", "c", "descriptor")


def test_only_what_is_printed_inside_lands_in_the_log(tmp_path: Path) -> None:
    # In a process of its own: pytest's own capturing replaces sys.stdout.
    log, inner = tmp_path / "sdk.log", tmp_path / "inner.log"
    log.write_text("kept\n")
    command = [sys.executable, "-c", SPEAK, str(log), str(inner)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seen = (done.stdout + done.stderr).splitlines()
    assert sorted(seen) == sorted(f"{way} {word}" for way in WAYS for word in ("before", "after"))
    logged = log.read_text().splitlines()
    assert logged[0] == "kept"
    assert sorted(logged[1:5]) == sorted(f"{way} inside" for way in WAYS)
    assert sorted(logged[5:]) == sorted(f"{way} again" for way in WAYS)
    assert sorted(inner.read_text().splitlines()) == sorted(f"{way} deeper" for way in WAYS)


def test_our_console_still_reaches_the_user(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    console = progress_console()
    with Progress(console=console) as progress, progress.step("lower"), sdk_log(tmp_path / "log"):
        console.print("for the user")
    err = capfd.readouterr().err
    assert "for the user" in err
    assert "lower (" in err
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), SystemExit(3)])
def test_descriptors_come_back_after_any_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], error: BaseException
) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with pytest.raises(type(error)), sdk_log(tmp_path / "sdk.log"):
        raise error
    print("back")
    assert capfd.readouterr().out == "back\n"
    after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after == before, "a descriptor leaked"
    if isinstance(error, RuntimeError):
        assert error.__notes__ == [f"What the SDK printed is in {tmp_path / 'sdk.log'}."]


def test_a_log_that_cannot_be_opened_changes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OSError, match="missing"), sdk_log(tmp_path / "missing" / "sdk.log"):
        pass
    print("still here")
    assert capfd.readouterr().out == "still here\n"
