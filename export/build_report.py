"""What became of the files that a build was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from dfnet.artifact import Artifact
from export.plan import Job

Status = Literal["built", "reused", "not available here", "failed"]


@dataclass(frozen=True)
class BuildRow:
    """What became of one job: an ``artifact``, or the ``reason`` why there is none."""

    job: Job
    status: Status
    seconds: float
    artifact: Artifact | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """One flat row; what does not apply is null."""
        manifest = self.artifact.manifest if self.artifact else None
        delegation = manifest.delegation if manifest else None
        return {
            "runtime": self.job.runtime,
            "backend": self.job.variant.backend,
            "recipe": self.job.variant.recipe,
            "resolution": self.job.sizes,
            "status": self.status,
            "reason": self.reason or None,
            "artifact": str(self.artifact.path) if self.artifact else None,
            "artifact_sha256": manifest.artifact_sha256 if manifest else None,
            "artifact_bytes": manifest.artifact_bytes if manifest else None,
            "delegate_calls": delegation.delegate_calls if delegation else None,
            "undelegated_convolutions": (
                delegation.undelegated_convolutions if delegation else None
            ),
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True)
class BuildReport:
    """One row per job, in the order of the plan."""

    rows: tuple[BuildRow, ...]

    def count(self, status: Status) -> int:
        return sum(row.status == status for row in self.rows)

    @property
    def succeeded(self) -> bool:
        """Something was made, and nothing that could be tried failed."""
        made = self.count("built") + self.count("reused")
        return made > 0 and self.count("failed") == 0
