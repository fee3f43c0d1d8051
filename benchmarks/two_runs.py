"""``python -m benchmarks compare OLD NEW``: what changed between two reports, and is it worse?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.regression import DROP_LINE_DB, LARGER_LINE, SLOWER_LINE, Regression
from benchmarks.verdict import PASSED, Outcome, Verdict, failed, not_run
from dfnet.decoding import decode, read_json
from dfnet.errors import MetricError

REPORT = Path("results/report.json")
"""Where every judging command keeps the rows, inside the folder of the artifacts."""

PAGE = "docs/measuring.md"
RATIO = "latency_ratio"


@dataclass(frozen=True)
class ReportRow:
    """What two reports are compared by: fields of ``benchmarks.row.Row``.

    Reports of versions that did not record the captures or the machine have None there.
    """

    platform: str
    runtime: str
    backend: str
    recipe: str
    resolution: str
    verdict: str
    artifact_sha256: str
    artifact_bytes: int
    device: str | None
    runner: str | None
    accelerator: str | None
    psnr_db: float | None
    drop_db: float | None
    latency_ratio: float | None
    latency_validity: str | None
    latency_protocol: str | None
    threads: int | None
    captures_sha256: str | None = None
    machine: str | None = None

    @property
    def name(self) -> str:
        """One kind of file in one place. A host's own name is left out: it tells its threads."""
        file = f"{self.platform} {self.runtime} {self.backend} {self.recipe} {self.resolution}"
        if self.runner is None:
            return file
        where = f"{self.device} {self.accelerator or ''}".rstrip()
        return f"{file} on {where}{f', {self.threads} threads' if self.threads else ''}"


def read_report(path: Path, platform: str | None = None) -> dict[str, ReportRow]:
    """The rows of a file that ``report --json`` printed, or of a folder of artifacts, by name.

    Raises:
        ArtifactError: it cannot be read.
        MetricError: it has no rows, a row is not what a report has, or two are of one kind.
    """
    file = path / REPORT if path.is_dir() else path
    data = read_json(file)
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
        raise MetricError(
            f"Report {file}: got {type(data).__name__}, needed a list of rows. Write one: "
            "python -m benchmarks report --json"
        )
    rows: dict[str, ReportRow] = {}
    for row in (_row(one, file) for one in data):
        if platform not in (None, row.platform):
            continue
        if row.name in rows:
            raise MetricError(
                f"Report {file}: got two rows of {row.name}, needed one. Keep each network's "
                "files in an --output of their own."
            )
        rows[row.name] = row
    if not rows:
        raise MetricError(f"Report {file}: got no rows{_of(platform)}, needed at least one.")
    return rows


def _of(platform: str | None) -> str:
    return f" of platform {platform!r}" if platform else ""


def _row(data: dict[str, Any], file: Path) -> ReportRow:
    names = {field.name for field in fields(ReportRow)}
    known = {name: value for name, value in data.items() if name in names}
    return decode(ReportRow, known, f"Report {file}", page=PAGE)


def compare_runs(old: dict[str, ReportRow], new: dict[str, ReportRow]) -> list[Regression]:
    """Every file of ``old``, then those only in ``new``, which have nothing to be held against.

    Raises:
        MetricError: they have no file in common.
    """
    if not old.keys() & new.keys():
        raise MetricError(
            f"Reports: got no file in common (old: {', '.join(old)}; new: {', '.join(new)}), "
            "needed at least one. Compare reports of the same platforms, recipes and resolutions."
        )
    return [_compared(name, row, new.get(name)) for name, row in old.items()] + [
        Regression(name, {"artifact": PASSED}, None, ("only in the new report",))
        for name in new
        if name not in old
    ]


def is_worse(regression: Regression) -> bool:
    """A check failed, or could not be made. Ratios of another machine are never comparable, so
    a ratio that was not compared counts for nothing."""
    return any(
        verdict.outcome is Outcome.FAILED or (verdict.outcome is Outcome.NOT_RUN and check != RATIO)
        for check, verdict in regression.checks.items()
    )


def _compared(name: str, old: ReportRow, new: ReportRow | None) -> Regression:
    if new is None:
        return Regression(
            name, {"artifact": not_run("not compared (not in the new report)")}, None, ()
        )
    checks = {
        "verdict": _judge_verdict(old, new),
        "drop_db": _judge_drop(old, new),
        "artifact_bytes": _judge_bytes(old, new),
        RATIO: _judge_ratio(old, new),
    }
    return Regression(name, checks, None, _changes(old, new))


def _judge_verdict(old: ReportRow, new: ReportRow) -> Verdict:
    if old.verdict == Outcome.PASSED != new.verdict:
        return failed(f"{new.verdict}, passed before")
    return PASSED


def _judge_drop(old: ReportRow, new: ReportRow) -> Verdict:
    if old.drop_db is None and new.drop_db is None:
        return PASSED
    if old.drop_db is None or new.drop_db is None:
        side = "old" if old.drop_db is None else "new"
        return not_run(f"not compared (the {side} report has no drop_db)")
    if old.captures_sha256 is None or old.captures_sha256 != new.captures_sha256:
        return not_run(f"not compared ({_unlike('captures', old, new, 'captures_sha256')})")
    growth = new.drop_db - old.drop_db
    if growth <= DROP_LINE_DB:
        return PASSED
    return failed(f"drop grew by {growth:.3f} dB, needed at most {DROP_LINE_DB} dB")


def _judge_bytes(old: ReportRow, new: ReportRow) -> Verdict:
    ratio = new.artifact_bytes / old.artifact_bytes
    if ratio <= LARGER_LINE:
        return PASSED
    return failed(f"{ratio:.3f} of the old bytes, needed at most {LARGER_LINE}")


def _judge_ratio(old: ReportRow, new: ReportRow) -> Verdict:
    reason = _why_no_ratio(old, new)
    if reason is not None or old.latency_ratio is None or new.latency_ratio is None:
        return not_run(f"not compared ({reason})")
    change = new.latency_ratio / old.latency_ratio
    if change <= SLOWER_LINE:
        return PASSED
    return failed(f"{change:.3f} of the old ratio, needed at most {SLOWER_LINE}")


def _why_no_ratio(old: ReportRow, new: ReportRow) -> str | None:
    for side, row in (("old", old), ("new", new)):
        if row.latency_ratio is None:
            return f"the {side} report has no ratio"
        if row.latency_validity != "VALID":
            return f"the {side} timing is {row.latency_validity}"
    for what, field in (
        ("machine", "machine"),
        ("protocol", "latency_protocol"),
        ("thread count", "threads"),
    ):
        if getattr(old, field) is None or getattr(old, field) != getattr(new, field):
            return _unlike(what, old, new, field)
    return None


def _unlike(what: str, old: ReportRow, new: ReportRow, field: str) -> str:
    def told(row: ReportRow) -> str:
        value = getattr(row, field)
        return "not recorded" if value is None else str(value)[:40]

    return f"other {what}: {told(old)} before, {told(new)} now"


_DIGITS: dict[str, Callable[[float], str]] = {
    "psnr_db": "{:.2f} dB".format,
    "drop_db": "{:.3f} dB".format,
    RATIO: "{:.2f}".format,
}


def _changes(old: ReportRow, new: ReportRow) -> tuple[str, ...]:
    """What is different, in words; what is equal is left out."""
    lines = []
    for name, text in _DIGITS.items():
        was, is_ = getattr(old, name), getattr(new, name)
        if was is not None and is_ is not None and text(was) != text(is_):
            lines.append(f"{name} {text(was)} -> {text(is_)} ({is_ - was:+.3f})")
    if new.artifact_bytes != old.artifact_bytes:
        change = new.artifact_bytes - old.artifact_bytes
        lines.append(
            f"{new.artifact_bytes} bytes ({change:+d}, {change / old.artifact_bytes:+.1%})"
        )
    if new.artifact_sha256 != old.artifact_sha256:
        lines.append(f"another file ({new.artifact_sha256[:12]})")
    return tuple(lines)


def to_json(regressions: Sequence[Regression]) -> list[dict[str, Any]]:
    """What ``--json`` prints: an entry per file."""
    return [
        {
            "name": one.name,
            "worse": is_worse(one),
            "checks": {check: verdict.to_json() for check, verdict in one.checks.items()},
            "changes": list(one.changes),
        }
        for one in regressions
    ]
