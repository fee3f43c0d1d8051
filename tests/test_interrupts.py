"""Ctrl-C at any moment of a long command: no traceback, and the exit code of an interrupt."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = "OUTPUT"
COMMANDS = [
    "export --platform android --runtime litert --recipe int8 --resolution 64x64 --output OUTPUT",
    "export --platform ios --runtime coreml --recipe fp32 --resolution 64x64 --output OUTPUT",
    "export lint --platform android",
    "quantize sensitivity --output OUTPUT",
    "quantize stability --output OUTPUT",
    "dfnet.train --steps 50 --output OUTPUT/mine.safetensors",
    "benchmarks.peers --output OUTPUT",
    "benchmarks photo-capture OUTPUT",
    "android_harness emulator start --output OUTPUT",
]
MOMENTS_S = [1.0, 3.0, 8.0]
"""Importing what only commands need, importing SDKs, working; a slow machine is later in each."""
INTERRUPTED = 130


@pytest.mark.slow
@pytest.mark.parametrize("after_s", MOMENTS_S)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: "-".join(words.split()[:2]))
def test_no_traceback(command: str, after_s: float, tmp_path: Path) -> None:
    words = shlex.split(command.replace(OUTPUT, str(tmp_path)))
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    time.sleep(after_s)
    if process.poll() is None:
        # A terminal sends it to the whole group.
        os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert "Traceback" not in said, said
    assert "KeyboardInterrupt" not in said, said
    # Some are done, or find what they lack, before the moment comes.
    if process.returncode == -signal.SIGINT:
        # Ended by the signal itself, which a shell reports as 130 too: Python does that when it is
        # interrupted on its way out, or inside of an SDK's own startup code.
        return
    if process.returncode not in (0, 1, 2):
        assert process.returncode == INTERRUPTED, said
        assert "Interrupted" in said, said
