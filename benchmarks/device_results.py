"""Latencies measured on devices by runners of the protocol: read, judge, keep.

A result is kept as the runner wrote it,

    <artifacts>/results/<platform>-<artifact id>.<device>-<key>.device.json

and judged anew whenever it is read: whether it is VALID is never taken from the file.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.device_protocol import (
    PAGE,
    PROTOCOL,
    AcceleratorFacts,
    DeviceRepeat,
    DeviceResult,
)
from benchmarks.device_rules import disturbances
from benchmarks.identity import key_of
from benchmarks.results import write_text
from benchmarks.timing import LatencyResult, Repeat
from dfnet.artifact import Artifact
from dfnet.decoding import decode, read_json, unfit
from dfnet.errors import ArtifactError, DeviceError, DFNetError, UnsupportedError
from dfnet.runner import Device

_log = logging.getLogger(__name__)
_SUFFIX = ".device.json"


@dataclass(frozen=True)
class DeviceLatency:
    """A result with repeats on a device whose time may be called latency."""

    facts: DeviceResult
    accelerator: AcceleratorFacts
    repeats: tuple[DeviceRepeat, ...]

    @property
    def artifact_sha256(self) -> str:
        return self.facts.artifact_sha256

    @property
    def device(self) -> Device:
        return Device(self.facts.device.kind, self.facts.device.name)

    @property
    def units(self) -> str:
        """The units that ran, in one word: ``cpu+neural_engine``."""
        return "+".join(sorted(self.accelerator.ran))

    @property
    def runner(self) -> str:
        return f"{self.facts.runner.name} {self.facts.runner.version}"

    @property
    def machine(self) -> str:
        """What tells devices of one name apart: the model and the version of its system."""
        device = self.facts.device
        return f"{device.model or '?'}, {device.os} {device.os_version}"

    @property
    def setting(self) -> tuple[object, ...]:
        """What a result must share with another's for their ratio to mean something."""
        facts = self.facts
        return facts.device, facts.runner, facts.threads, facts.cold, sorted(self.accelerator.ran)

    @property
    def place(self) -> str:
        """Where it is measured, as a file name: a new result of the same place replaces it."""
        name = re.sub(r"[^a-z0-9]+", "-", self.facts.device.name.lower()).strip("-") or "device"
        asked = sorted(self.accelerator.asked)
        return f"{name[:40]}-{key_of(asdict(self.facts.device), self.facts.threads, asked)[:8]}"

    @cached_property
    def latency(self) -> LatencyResult:
        """Times and our own verdict on them, without a ratio."""
        return LatencyResult(
            artifact_sha256=self.artifact_sha256,
            device=self.device,
            protocol=f"device-{PROTOCOL}",
            threads=self.facts.threads,
            repeats=tuple(self._repeat(one) for one in self.repeats),
            disturbances=disturbances(self.accelerator, self.repeats, self.facts),
        )

    def _repeat(self, one: DeviceRepeat) -> Repeat:
        return Repeat(
            device=self.device,
            accelerator=self.units,
            load_ms=one.load_ms,
            first_ms=one.first_ms,
            warmup_ms=one.warmup_ms,
            samples_ms=one.samples_ms,
            other_cpus=None,
        )


def read_device_latency(path: Path) -> DeviceLatency:
    """The result in ``path``.

    Raises:
        ArtifactError: it is no result of this version of the protocol; names the field.
        DeviceError: the runner reports that it failed.
        UnsupportedError: an emulator or a simulator ran, which has no latency.
    """
    value, where = read_json(path), f"Result {path}"
    version = value.get("protocol") if isinstance(value, dict) else None
    if isinstance(value, dict) and (version != PROTOCOL or isinstance(version, bool)):
        needed = f"{PROTOCOL}, from a runner of this version"
        raise unfit(f"{where}: protocol", version, needed, page=PAGE)
    return _latency(decode(DeviceResult, value, where, page=PAGE), where)


def _latency(result: DeviceResult, where: str) -> DeviceLatency:
    if (result.repeats is None) == (result.error is None):
        got = "neither repeats nor an error" if result.error is None else "repeats and an error"
        raise ArtifactError(f"{where}: got {got}, needed one of the two. Run it again.")
    if result.error is not None:
        said = " ".join(result.error.message.split())[:300] or "no message"
        raise DeviceError(
            f"{where}: the runner on {result.device.name} failed at {result.error.stage} ({said}), "
            "needed measured repeats. Mend that and run it again."
        )
    if result.repeats is None or result.accelerator is None or result.cold is None:
        missing = "accelerator" if result.accelerator is None else "cold"
        raise unfit(f"{where}: {missing}", None, "a value, since there are repeats", page=PAGE)
    if result.device.kind in ("emulator", "simulator"):
        raise UnsupportedError(
            f"{where}: got times of the {result.device.kind} {result.device.name}, needed a "
            "device's or a host's. Time there is not latency; run it on a device."
        )
    return DeviceLatency(result, result.accelerator, result.repeats)


def result_path(folder: Path, artifact: Artifact, found: DeviceLatency) -> Path:
    """Where a result of ``artifact`` is kept in the results ``folder``."""
    return folder / f"{artifact.manifest.platform}-{artifact.id}.{found.place}{_SUFFIX}"


def keep(path: Path, found: DeviceLatency) -> None:
    """Writes a result, whole or not at all.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    write_text(path, json.dumps(asdict(found.facts), indent=1, allow_nan=False) + "\n")


def all_device_latencies(folder: Path) -> Iterator[DeviceLatency]:
    """Every readable device result in ``folder``."""
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            yield read_device_latency(path)
        except DFNetError as error:
            _log.warning("%s It is left out; import it again.", error)
