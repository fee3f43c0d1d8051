"""``python -m export``: what it prints, its exit codes, and every bad argument in one sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
import torch
from safetensors.torch import load_file, save_file

from dfnet.artifact import sha256_of
from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.checkpoint import save_checkpoint
from dfnet.console import run_command
from dfnet.errors import UnsupportedError
from dfnet.model import DFNet
from export.__main__ import main

from fakes import FakeRuntime, use_fake_runtime

ROOT = Path(__file__).resolve().parent.parent

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def checkpoint(tiny_network: DFNet, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(tiny_network, path, training={})
    return path


@pytest.fixture
def good(
    checkpoint: Path, make_capture_set: Callable[..., CaptureSet], tmp_path: Path
) -> dict[str, str]:
    """Options that work."""
    return {
        "--platform": "android",
        "--resolution": "64x64",
        "--checkpoint": str(checkpoint),
        "--calibration": str(make_capture_set(Split.CALIBRATION, 8).root),
        "--output": str(tmp_path / "artifacts"),
    }


def arguments_of(options: dict[str, str | None]) -> list[str]:
    """Options as a command line; None drops an option, "" gives it no value."""
    given = [(name, value) for name, value in options.items() if value is not None]
    return [word for name, value in given for word in ((name, value) if value else (name,))]


@pytest.fixture
def run(
    good: dict[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """``run(options)``: the good command line with changes -> (exit code, stdout, stderr)."""
    use_fake_runtime(monkeypatch)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # pytest keeps its own

    def call(changes: dict[str, str | None] | None = None) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run_command(main, arguments_of({**good, **(changes or {})}))
        out, err = capfd.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, out, err

    return call


def test_builds_then_reuses_and_says_so(run: Run, good: dict[str, str]) -> None:
    code, out, _ = run()
    assert code == 0
    assert "2 built, 0 reused" in out
    code, out, err = run()
    assert code == 0
    assert "0 built, 2 reused" in out
    assert err.count("reused") == 2
    assert (Path(good["--output"]) / "android" / "export.log").exists()


def test_json_is_one_flat_row_per_file(run: Run) -> None:
    code, out, _ = run({"--json": ""})
    rows = json.loads(out)
    assert code == 0
    assert [row["status"] for row in rows] == ["built", "built"]
    assert all(Path(row["artifact"]).stat().st_size == row["artifact_bytes"] for row in rows)


def test_a_failed_file_exits_2_and_gives_the_reason(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeRuntime, "failure", UnsupportedError("Fake: cannot do this."))
    code, out, _ = run()
    assert code == 2
    assert "Fake: cannot do this." in out


def test_ctrl_c_exits_130_without_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRuntime, "failure", KeyboardInterrupt())
    code, _, err = run()
    assert code == 130
    assert "Interrupted" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("debug", [False, True])
def test_an_unexpected_error_is_one_line_that_names_the_log_and_debug(
    run: Run, monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    monkeypatch.setattr(FakeRuntime, "failure", RuntimeError("deep inside"))
    code, _, err = run({"--debug": ""} if debug else {})
    assert code == 2
    assert "Unexpected RuntimeError: deep inside" in err
    assert "export.log" in err
    assert ("Traceback" in err) is debug


def broken(tmp_path: Path, good: dict[str, str], *, kind: str) -> Path:
    """A copy of the good checkpoint with one thing wrong."""
    source = Path(good["--checkpoint"])
    target = tmp_path / f"{kind}.safetensors"
    weights = load_file(source)
    name = next(name for name in weights if name.endswith("weight"))
    if kind == "nan":
        weights[name] = torch.full_like(weights[name], float("nan"))
    elif kind == "keys":
        weights["unknown.weight"] = weights.pop(name)
    elif kind == "shape":
        weights[name] = weights[name][:1].contiguous()
    if kind == "pickle":
        torch.save(weights, target)
    elif kind == "truncated":
        target.write_bytes(source.read_bytes()[:-100])
    else:
        save_file(weights, target)
    config = json.loads(source.with_suffix(".json").read_text())
    config["weights_sha256"] = sha256_of(target)
    target.with_suffix(".json").write_text(json.dumps(config))
    return target


@pytest.mark.parametrize("kind", ["nan", "keys", "shape", "pickle", "truncated"])
def test_a_broken_checkpoint_is_one_sentence(
    run: Run, good: dict[str, str], tmp_path: Path, kind: str
) -> None:
    assert "heckpoint" in refused(
        run, good, {"--checkpoint": str(broken(tmp_path, good, kind=kind))}
    )


BAD_OPTIONS: dict[str, dict[str, str | None]] = {
    "no platform": {"--platform": None},
    "unknown platform": {"--platform": "symbian"},
    "unknown runtime": {"--runtime": "tflite"},
    "unknown recipe": {"--recipe": "int4"},
    "recipe nobody offers": {"--recipe": "w8a16"},
    "unknown resolution": {"--resolution": "4k"},
    "odd resolution": {"--resolution": "1080x1918"},
    "zero resolution": {"--resolution": "0x64"},
    "unknown device": {"--resolution": None, "--device": "Nokia 3310"},
    "device of the other platform": {"--resolution": None, "--device": "iPhone 15 Pro"},
    "device and resolution": {"--device": "Pixel 8 Pro"},
    "missing checkpoint": {"--checkpoint": "nowhere.safetensors"},
    "factory without colon": {"--checkpoint": None, "--factory": "json"},
    "factory that is not there": {"--checkpoint": None, "--factory": "no_such_module:make"},
    "factory of something else": {"--checkpoint": None, "--factory": "json:JSONDecoder"},
    "factory and checkpoint": {"--factory": "json:loads"},
    "weights without factory": {"--weights": "some.safetensors"},
    "missing calibration": {"--calibration": "nowhere"},
    "missing captures": {"--captures": "nowhere"},
    "no threads": {"--threads": "0"},
    "unknown option": {"--quick": ""},
}


def refused(run: Run, good: dict[str, str], changes: dict[str, str | None]) -> str:
    """Runs with ``changes``; asserts exit 2, one line, and that nothing was built."""
    code, out, err = run(changes)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1, err
    assert "Traceback" not in err
    assert not list(Path(good["--output"]).glob("*/*/manifest.json"))
    return err


@pytest.mark.parametrize("changes", BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_a_bad_option_is_one_sentence(
    run: Run, good: dict[str, str], changes: dict[str, str | None]
) -> None:
    assert refused(run, good, changes).strip()


def test_options_of_export_are_not_dropped_before_another_command(
    run: Run, good: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(main.commands, "other", click.Command("other", callback=lambda: 0))
    assert "--platform" in refused(run, good, {"other": ""})


def test_another_command_runs_without_a_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    other = click.Command("other", callback=lambda: 1)
    monkeypatch.setitem(main.commands, "other", other)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # pytest keeps its own
    with pytest.raises(SystemExit) as stopped:
        run_command(main, ["other"])
    assert stopped.value.code == 1


def test_an_odd_resolution_names_the_nearest(run: Run, good: dict[str, str]) -> None:
    assert "1080x1920" in refused(run, good, {"--resolution": "1080x1918"})


def test_captures_of_a_wrong_split_are_refused(
    run: Run, good: dict[str, str], make_capture_set: Callable[..., CaptureSet]
) -> None:
    held_out = str(make_capture_set(Split.HELD_OUT, 8).root)
    assert "held_out" in refused(run, good, {"--calibration": held_out})
    assert "calibration" in refused(run, good, {"--captures": good["--calibration"]})


def test_too_few_captures_are_refused(
    run: Run, good: dict[str, str], make_capture_set: Callable[..., CaptureSet]
) -> None:
    few = str(make_capture_set(Split.CALIBRATION, 3).root)
    assert "got 3" in refused(run, good, {"--calibration": few})


def test_an_empty_capture_folder_is_refused(run: Run, good: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(run, good, {"--calibration": str(tmp_path / "empty")})


def test_an_output_in_the_way_is_refused(run: Run, good: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(run, good, {"--output": str(tmp_path / "file")})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only folders")
def test_a_read_only_output_is_refused(run: Run, good: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    assert "cannot be written" in refused(run, good, {"--output": str(tmp_path / "locked")})


def test_captures_that_score_well_are_accepted(
    run: Run, make_capture_set: Callable[..., CaptureSet]
) -> None:
    assert run({"--captures": str(make_capture_set(Split.HELD_OUT, 2).root)})[0] == 0


def test_help_answers_without_loading_torch() -> None:
    script = (
        "import sys, runpy\n"
        "sys.argv = ['export', '--help']\n"
        "try:\n    runpy.run_module('export', run_name='__main__')\n"
        "except SystemExit as stopped:\n"
        "    sys.exit(stopped.code or (3 if 'torch' in sys.modules else 0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--platform" in done.stdout


SLOW_EXPORT = """
import resource, signal, time
# Whoever runs the tests in the background may ignore Ctrl-C, which children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
import fakes
from dfnet.console import run_command
from export.__main__ import main
from export.variants import RUNTIMES

RUNTIMES.clear()
RUNTIMES["fake"] = fakes.FAKE_ROW
lower = fakes.FakeRuntime.lower

def slowly(self, program, *, backend, resolution, folder):
    if {limit}:
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    print("half-way", flush=True)
    (folder.parent / "half-way").touch()
    (folder / "half").write_bytes(b"x" * 2_000_000)
    time.sleep({seconds})
    return lower(self, program, backend=backend, resolution=resolution, folder=folder)

fakes.FakeRuntime.lower = slowly
run_command(main)
"""


@contextmanager
def started(
    good: dict[str, str], *, seconds: int = 0, limit: int = 0
) -> Iterator[subprocess.Popen[str]]:
    """``python -m export`` in a process of its own, with a runtime that dawdles half-way.

    ``limit`` bytes is the largest file it may write: the kernel's own refusal, as of a full disk.
    """
    script = SLOW_EXPORT.format(seconds=seconds, limit=limit)
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments_of({**good})],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def leftovers(good: dict[str, str]) -> list[str]:
    folder = Path(good["--output"]) / "android"
    known = ("export.log", ".lock", "half-way")
    return [path.name for path in folder.iterdir() if path.name not in known]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "kill"]
)
def test_a_signal_mid_export_leaves_nothing_half_written(
    good: dict[str, str], number: signal.Signals, code: int
) -> None:
    half_way = Path(good["--output"]) / "android" / "half-way"
    with started(good, seconds=120) as process:
        deadline = time.monotonic() + 240
        while not half_way.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert "half-way" not in out + err, "the SDK's output belongs in the log"
    assert "half-way" in half_way.with_name("export.log").read_text()
    assert leftovers(good) == []


def test_a_file_that_does_not_fit_is_one_sentence_and_leaves_nothing(
    good: dict[str, str],
) -> None:
    with started(good, limit=1_000_000) as process:
        _, err = process.communicate(timeout=240)
    assert process.returncode == 2
    assert "cannot be written (File too large)" in err
    assert "Traceback" not in err
    assert leftovers(good) == []
