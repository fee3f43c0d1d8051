"""Whether a file computes on a device what it computes on this machine; kept like other results.

    <artifacts>/results/<platform>-<artifact id>.<device>-<key>.parity.json

A result is judged anew whenever it is read; the verdict is never taken from the file.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np

from benchmarks.device_protocol import DeviceFacts, Line, RunnerFacts, Sha256
from benchmarks.identity import key_of
from benchmarks.parity import finite_db
from benchmarks.results import write_text
from benchmarks.verdict import Bar, Verdict, failed, judge
from dfnet.artifact import Artifact
from dfnet.capture import Image
from dfnet.decoding import Rule, decode, read_json
from dfnet.errors import ArtifactError
from dfnet.manifest import Manifest
from dfnet.metrics import psnr_db
from dfnet.profiles import Precision

_log = logging.getLogger(__name__)
SCHEMA = 1
PAGE = "docs/android.md"
_SUFFIX = ".parity.json"

SAME = 1e-5
"""Outputs in [0, 1] that differ by less are the same: float sums in another order."""

_LEVEL = 1 / 255
_FLOAT_BARS = (Bar("max_abs", "at most", SAME),)
_TAIL_BARS = (
    Bar("changed_share", "at most", 1e-3),
    Bar("max_abs", "at most", _LEVEL + SAME),
)
"""int8 with a float image path, or float that ends in bytes: what is rounded another way shows in
few pixels, as one level."""
_EXACT_BARS = (Bar("max_abs", "at most", 0.0),)
"""int8 throughout: integer arithmetic has one answer."""
_OTHER_BARS = (Bar("psnr_db", "at least", 55, "dB"),)
"""float16 and int16 arithmetic, which this machine and a phone's processor do differently."""

# Rules stand at module level: inside a class their lambdas would not see the module's names.
Schema = Annotated[int, Rule(str(SCHEMA), lambda v: v == SCHEMA)]
Share = Annotated[float, Rule("0 to 1", lambda v: 0 <= v <= 1)]
Magnitude = Annotated[float, Rule("0 or more", lambda v: v >= 0)]
Boots = Annotated[
    tuple[tuple[float, ...], ...],
    Rule(
        "a boot at least, with times over 0 ms",
        lambda v: bool(v) and all(b and min(b) > 0 for b in v),
    ),
]


@dataclass(frozen=True)
class Figures:
    """A device's output against this machine's: the largest difference, the share of pixels with
    any channel off by more than ``SAME``, and the PSNR with peak 1."""

    max_abs: Magnitude
    changed_share: Share
    psnr_db: float


@dataclass(frozen=True)
class InsnProxy:
    """Instructions executed, as time on a device whose clock counts them; no latency.

    ``machine`` is what was emulated; ``boots_ms`` holds every boot's timed inferences.
    """

    machine: Line
    boots_ms: Boots

    @property
    def least_ms(self) -> tuple[float, ...]:
        """Of every boot: whatever else the system does meanwhile can only add instructions."""
        return tuple(map(min, self.boots_ms))

    @property
    def headline_ms(self) -> float:
        """Median of the boots' least."""
        return median(self.least_ms)


@dataclass(frozen=True)
class DeviceParity:
    """One file on one device. Exactly one of ``figures`` and ``error`` is given."""

    schema: Schema
    artifact_sha256: Sha256
    device: DeviceFacts
    runner: RunnerFacts | None
    accelerator: Line | None
    threads: int | None
    figures: Figures | None
    error: str | None
    insn_proxy: InsnProxy | None

    def verdict(self, manifest: Manifest) -> Verdict:
        """Against the bars of the file's arithmetic."""
        if self.figures is None:
            return failed(self.error or "nothing was compared")
        return judge(asdict(self.figures), bars_of(manifest))

    @property
    def place(self) -> str:
        """Where it is measured, as a file name: a new result of the same place replaces it."""
        name = re.sub(r"[^a-z0-9]+", "-", self.device.name.lower()).strip("-") or "device"
        return f"{name[:40]}-{key_of(asdict(self.device), self.threads, self.accelerator)[:8]}"


def bars_of(manifest: Manifest) -> tuple[Bar, ...]:
    """How far a file of this arithmetic may be from what it gives on this machine."""
    if manifest.precision is Precision.FP32:
        return _TAIL_BARS if manifest.recipe.get("app_io") else _FLOAT_BARS
    if manifest.precision is not Precision.W8A8:
        return _OTHER_BARS
    recipe = manifest.recipe
    float_ops = recipe.get("float_image_path") or recipe.get("keep_float") or recipe.get("by_sdk")
    return _TAIL_BARS if float_ops or recipe.get("float_heads") else _EXACT_BARS


def compare_outputs(reference: Image, got: Image) -> Figures | str:
    """The figures of two (1, 3, H, W) pictures, or why they must not be compared."""
    if got.shape != reference.shape or got.dtype != reference.dtype:
        return f"output {got.dtype} {got.shape}, needed {reference.dtype} {reference.shape}"
    broken = int(got.size - np.isfinite(got).sum())
    if broken:
        return f"output holds {broken} values that are not finite"
    difference = np.abs(got - reference)
    changed = (difference > SAME).any(axis=1)
    return Figures(
        max_abs=float(difference.max()),
        changed_share=float(changed.mean()),
        psnr_db=finite_db(psnr_db(reference, got)),
    )


def proxy_ratio(mine: InsnProxy | None, base: InsnProxy | None) -> float | None:
    """Instructions over fp32's; None where either was not counted, or on other machines."""
    if mine is None or base is None or mine.machine != base.machine:
        return None
    return mine.headline_ms / base.headline_ms


def spread(proxy: InsnProxy) -> float:
    """The boot with most instructions over the one with least, less 1."""
    return max(proxy.least_ms) / min(proxy.least_ms) - 1


def keep(folder: Path, artifact: Artifact, found: DeviceParity) -> Path:
    """Writes a result into the results ``folder``, whole or not at all; gives its path.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    path = folder / f"{artifact.manifest.platform}-{artifact.id}.{found.place}{_SUFFIX}"
    write_text(path, json.dumps(asdict(found), indent=1, allow_nan=False) + "\n")
    return path


def all_device_parities(folder: Path) -> Iterator[DeviceParity]:
    """Every readable result in ``folder``."""
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            yield decode(DeviceParity, read_json(path), f"Result {path}", page=PAGE)
        except ArtifactError as error:
            _log.warning("%s It is left out; run it again.", error)
