"""Studies of a small network through the command line, on synthetic captures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.fx import GraphModule

from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.checkpoint import Checkpoint
from dfnet.network import NetworkChoice
from quantize.__main__ import main
from quantize.ptq import StaticProgram
from quantize.study.setting import Setting

from small_networks import restorer

MakeSet = Callable[..., CaptureSet]


def study_options(
    make_capture_set: MakeSet,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    calibration: int = 8,
) -> dict[str, str]:
    """Options that every study takes; the network is small, whatever they name."""
    with torch.random.fork_rng(devices=[]):
        checkpoint = Checkpoint(restorer().eval(), "small", {})
    monkeypatch.setattr(NetworkChoice, "load", lambda choice: checkpoint)
    return {
        "--calibration": str(make_capture_set(Split.CALIBRATION, calibration).root),
        "--captures": str(make_capture_set(Split.VALIDATION, 1).root),
        "--output": str(folder / "study"),
        "--store": str(folder / "quantized"),
    }


def run_study(name: str, options: dict[str, str], *flags: str) -> object:
    """The exit code of ``python -m quantize <name>``, which otherwise raises."""
    words = [word for pair in options.items() for word in pair]
    return main.main([name, *words, *flags], standalone_mode=False)


def damage_programs(monkeypatch: pytest.MonkeyPatch, damage: Callable[[GraphModule], None]) -> None:
    """From now on studies get programs whose prepared graphs went through ``damage``."""
    honest = Setting.program

    def program(*arguments: Any, **keywords: Any) -> StaticProgram:
        made = honest(*arguments, **keywords)
        damage(made.prepared)
        return made

    monkeypatch.setattr(Setting, "program", program)
