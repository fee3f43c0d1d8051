"""Results on disk: one JSON file per artifact checked and per comparison of latencies.

    <artifacts>/results/<platform>-<artifact id>.checks.json
    <artifacts>/results/<platform>-<runtime>-<backend>-<resolution>.<protocol>.latency.json

Each holds the key it was measured under; a result whose key differs is measured again. Rows of a
report join on artifact_sha256, never on file names.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from benchmarks.timing import LatencyResult
from benchmarks.verdict import Verdict
from dfnet.artifact import Artifact
from dfnet.errors import ArtifactError, MetricError
from dfnet.manifest import Manifest
from dfnet.runner import Device

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Execution:
    """One way a file was executed, and its main figures."""

    device: Device
    verdict: Verdict
    figures: dict[str, float | None]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        verdict = Verdict.from_json(data["verdict"])
        return cls(Device(**data["device"]), verdict, data["figures"])


@dataclass(frozen=True)
class Checks:
    """What parity and quality found for one artifact on one machine.

    ``device`` is what ran the worst of the ``executions``, and None when nothing ran. ``figures``
    are its numbers that reports show, ``splits`` the same by kind of target, and ``details`` every
    score of every capture. ``verdicts`` count all executions. ``entry`` says which resolution of a
    bundle was judged, see ``Manifest``.
    """

    SCHEMA: ClassVar[int] = 2

    key: str
    artifact_sha256: str
    device: Device | None
    executions: tuple[Execution, ...]
    verdicts: dict[str, Verdict]
    figures: dict[str, float | None]
    splits: dict[str, dict[str, float | None]]
    details: dict[str, Any]
    entry: str | None = None

    def is_of(self, manifest: Manifest) -> bool:
        """Whether it was the file, and the resolution of it, that ``manifest`` describes."""
        mine = (self.artifact_sha256, self.entry)
        return mine == (manifest.artifact_sha256, manifest.entry)

    def to_json(self) -> dict[str, Any]:
        verdicts = {name: verdict.to_json() for name, verdict in self.verdicts.items()}
        executions = [execution.to_json() for execution in self.executions]
        return {
            "schema": self.SCHEMA,
            **asdict(self),
            "verdicts": verdicts,
            "executions": executions,
        }

    @property
    def ran_on_host(self) -> bool:
        """Whether the runtime itself ran here, so that it can be timed."""
        return any(execution.device.kind == "host" for execution in self.executions)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            key=data["key"],
            artifact_sha256=data["artifact_sha256"],
            device=None if data["device"] is None else Device(**data["device"]),
            executions=tuple(map(Execution.from_json, data["executions"])),
            verdicts={n: Verdict.from_json(v) for n, v in data["verdicts"].items()},
            figures=data["figures"],
            splits=data["splits"],
            details=data["details"],
            entry=data.get("entry"),
        )


@dataclass(frozen=True)
class Comparison:
    """Latencies measured interleaved in one run, by artifact sha256."""

    SCHEMA: ClassVar[int] = 1

    key: str
    results: dict[str, LatencyResult]

    def to_json(self) -> dict[str, Any]:
        results = {sha256: result.to_json() for sha256, result in self.results.items()}
        return {"schema": self.SCHEMA, "key": self.key, "results": results}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        results = {s: LatencyResult.from_json(result) for s, result in data["results"].items()}
        return cls(data["key"], results)


def checks_path(folder: Path, artifact: Artifact) -> Path:
    """Where the checks of ``artifact`` are kept in the results ``folder``."""
    return folder / f"{artifact.manifest.platform}-{artifact.id}.checks.json"


_T = TypeVar("_T", Checks, Comparison)


def read_checks(path: Path) -> Checks | None:
    """The checks in ``path``; None when there are none that this version understands."""
    return _read(path, Checks)


def read_comparison(path: Path) -> Comparison | None:
    """The comparison in ``path``; None when there is none that this version understands."""
    return _read(path, Comparison)


def all_checks(folder: Path) -> Iterator[Checks]:
    """Every readable checks file in ``folder``."""
    found = (read_checks(path) for path in sorted(folder.glob("*.checks.json")))
    return (checks for checks in found if checks)


def all_comparisons(folder: Path) -> Iterator[Comparison]:
    """Every readable latency file in ``folder``."""
    found = (read_comparison(path) for path in sorted(folder.glob("*.latency.json")))
    return (comparison for comparison in found if comparison)


def _read(path: Path, kind: type[_T]) -> _T | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return kind.from_json(data) if data["schema"] == kind.SCHEMA else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, MetricError) as error:
        _log.warning("Result %s cannot be read (%s); measuring again.", path, error)
        return None


def write_result(path: Path, result: Checks | Comparison) -> None:
    """Writes a result, whole or not at all.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    write_text(path, json.dumps(result.to_json(), indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ArtifactError(
            f"Result {path}: cannot be written ({error.strerror or error}). Choose a writable "
            "--output folder with free space."
        ) from error
