"""What stands beside an exported file: how it was built, what it takes and gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dfnet.errors import ArtifactError, UnsupportedError
from dfnet.profiles import Precision, Resolution

SCHEMA = 1


@dataclass(frozen=True)
class TensorSpec:
    """What the *file* expects or returns under one name.

    ``layout`` is NCHW or NHWC. ``scale`` and ``zero_point`` are None for float tensors; otherwise
    real = scale * (stored - zero_point).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class Delegation:
    """Where operators run: ``placement[place][operator]`` is a count.

    Places are a delegate's or accelerator's name, or ``portable`` / ``reference`` for what no
    delegate took. ``delegate_calls`` counts hand-overs per inference. ``undelegated_convolutions``
    must be zero for an artifact to be worth shipping. All counts are None-free: a runtime that
    cannot tell leaves ``Manifest.delegation`` itself None.
    """

    delegate_calls: int
    undelegated_convolutions: int
    placement: dict[str, dict[str, int]]


@dataclass(frozen=True)
class EntryPoint:
    """One resolution of a bundle: a LiteRT signature, an ExecuTorch method or a Core ML function,
    by its ``name`` in the file. The other fields are those of ``Manifest``."""

    name: str
    resolution: Resolution
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    delegation: Delegation | None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EntryPoint:
        return cls(
            name=data["name"],
            resolution=Resolution(**data["resolution"]),
            inputs=_tensor_specs(data["inputs"]),
            outputs=_tensor_specs(data["outputs"]),
            delegation=_delegation(data["delegation"]),
        )


@dataclass(frozen=True)
class Manifest:
    """Build facts of one artifact; its JSON form stands beside the file.

    ``build_key`` is the hash of everything that went into the file, so that an equal key means
    an equal build. ``recipe`` is the recipe's JSON form. ``calibration_sha256`` is None for
    recipes that need no calibration.

    A bundle lists its ``entry_points``, and ``entry`` names the one that ``resolution``,
    ``inputs``, ``outputs`` and ``delegation`` are of: on disk the first. ``at`` gives the others.
    Both are empty for a file of one resolution.
    """

    runtime: str
    backend: str
    precision: Precision
    platform: str
    resolution: Resolution
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    checkpoint_sha256: str
    recipe: dict[str, Any]
    calibration_sha256: str | None
    build_key: str
    artifact_file: str
    artifact_sha256: str
    artifact_bytes: int
    tool_versions: dict[str, str]
    delegation: Delegation | None
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    entry: str | None = None
    entry_points: tuple[EntryPoint, ...] = ()
    schema: int = SCHEMA

    @property
    def resolutions(self) -> tuple[Resolution, ...]:
        """Every resolution the file can be run at."""
        return tuple(one.resolution for one in self.entry_points) or (self.resolution,)

    def at(self, resolution: Resolution) -> Manifest:
        """The same file's manifest seen at one of its resolutions.

        Raises:
            UnsupportedError: the file does not have it; lists those it has.
        """
        if resolution == self.resolution:
            return self
        for one in self.entry_points:
            if one.resolution == resolution:
                return replace(
                    self,
                    resolution=one.resolution,
                    inputs=one.inputs,
                    outputs=one.outputs,
                    delegation=one.delegation,
                    entry=one.name,
                )
        raise UnsupportedError(
            f"{self.runtime} artifact: got the resolution {resolution}, needed one of "
            f"{', '.join(map(str, self.resolutions))}. Export it with --resolution."
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Manifest:
        """The manifest of a decoded JSON object.

        Raises:
            ArtifactError: another schema, or missing, unknown or ill-typed fields.
        """
        if data.get("schema") != SCHEMA:
            raise ArtifactError(
                f"Manifest schema: got {data.get('schema')!r}, needed {SCHEMA}. Export again."
            )
        try:
            points = tuple(map(EntryPoint.from_json, data.get("entry_points", ())))
            return cls(
                **{
                    **data,
                    "precision": Precision(data["precision"]),
                    "resolution": Resolution(**data["resolution"]),
                    "inputs": _tensor_specs(data["inputs"]),
                    "outputs": _tensor_specs(data["outputs"]),
                    "delegation": _delegation(data["delegation"]),
                    "entry_points": points,
                    "notes": tuple(data["notes"]),
                }
            )
        except (TypeError, KeyError, ValueError, UnsupportedError) as error:
            raise ArtifactError(
                f"Manifest: got fields this version does not understand ({error}). Export again."
            ) from error


def _delegation(row: dict[str, Any] | None) -> Delegation | None:
    return None if row is None else Delegation(**row)


def _tensor_specs(rows: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(**{**row, "shape": tuple(row["shape"])}) for row in rows)
