"""Baselines: what one file measured on one device when it was last accepted; committed.

    benchmarks/baselines/<platform>-<runtime>-<backend>-<recipe>-<resolution>.<device>-<key>.json

Times of a phone are its latency, those of an emulator a proxy for the instructions executed
(``insn_proxy_ms``), those of a host good for this host alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from benchmarks.identity import key_of
from benchmarks.results import write_text
from dfnet.decoding import Rule, decode, read_json
from dfnet.errors import ArtifactError

SCHEMA = 1
PAGE = "docs/measuring.md"
FOLDER = Path("benchmarks/baselines")
Unit = Literal["host_ms", "insn_proxy_ms", "latency_ms"]

# Rules stand at module level: inside a class their lambdas would not see the module's names.
Schema = Annotated[int, Rule(str(SCHEMA), lambda v: v == SCHEMA)]
Bytes = Annotated[int, Rule("over 0", lambda v: v > 0)]
Times = Annotated[
    tuple[float, ...],
    Rule("at least one time, all over 0 ms", lambda v: len(v) > 0 and min(v) > 0),
]
Repeats = Annotated[tuple[Times, ...], Rule("at least one repeat", lambda v: len(v) > 0)]


@dataclass(frozen=True)
class Setting:
    """What two runs must share for their times to be compared.

    ``machine`` tells apart what bears one name: a host's processor, a phone's system version.
    """

    platform: str
    runtime: str
    backend: str
    recipe: str
    resolution: str
    device_kind: Literal["host", "emulator", "device"]
    device: str
    machine: str
    runner: str | None
    accelerator: str
    protocol: str
    threads: int | None
    unit: Unit

    def difference(self, other: Setting) -> str | None:
        """The first field that differs, with both values; None when they are alike."""
        for name in (field.name for field in fields(self)):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} {mine}, baseline {theirs}"
        return None


@dataclass(frozen=True)
class Measured:
    """One file on one device; a baseline once it is written down.

    ``repeats_ms`` are the raw samples of every repeat. ``psnr_db`` and ``drop_db`` are as in a
    report's row, None where no picture was compared.
    """

    schema: Schema
    artifact: str
    artifact_sha256: str
    artifact_bytes: Bytes
    setting: Setting
    repeats_ms: Repeats
    psnr_db: float | None
    drop_db: float | None
    latency_ratio: float | None

    @property
    def cell(self) -> tuple[str, ...]:
        """What a baseline is of: one kind of file on one device, however often it is built anew."""
        s = self.setting
        return *self._file, s.device_kind, s.device, s.accelerator

    @property
    def name(self) -> str:
        return f"{' '.join(self._file)} on {self.setting.device}"

    @property
    def _file(self) -> tuple[str, ...]:
        s = self.setting
        return s.platform, s.runtime, s.backend, s.recipe, s.resolution


@dataclass(frozen=True)
class Found:
    """A measurement and why it must not be trusted, if so."""

    measured: Measured
    invalid_reasons: tuple[str, ...]


def baseline_path(folder: Path, measured: Measured) -> Path:
    """Where a baseline is kept; a new one of the same cell replaces it."""
    setting = measured.setting
    slug = re.sub(r"[^a-z0-9]+", "-", setting.device.lower()).strip("-")[:40] or "device"
    file = f"{setting.platform}-{setting.runtime}-{setting.backend}-{setting.recipe}"
    key = key_of(*measured.cell)[:8]
    return folder / f"{file}-{setting.resolution}.{slug}-{key}.json"


def write_baseline(folder: Path, measured: Measured) -> Path:
    """Writes a baseline, whole or not at all.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    path = baseline_path(folder, measured)
    write_text(path, json.dumps(asdict(measured), indent=1, allow_nan=False) + "\n")
    return path


def read_baselines(folder: Path) -> list[Measured]:
    """Every baseline in ``folder``.

    Raises:
        ArtifactError: there is none, or one is not what this version writes.
    """
    found = list(_read(folder))
    if not found:
        raise ArtifactError(
            f"Baselines in {folder}: got none, needed at least one to compare with. Write them "
            "from results you accept: make baseline"
        )
    return found


def _read(folder: Path) -> Iterator[Measured]:
    for path in sorted(folder.glob("*.json")):
        yield decode(Measured, read_json(path), f"Baseline {path}", page=PAGE)
