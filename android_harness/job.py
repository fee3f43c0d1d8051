"""What a native runner is asked: job.json. PROTOCOL.md explains every field.

``android_harness.job_result`` is what it answers.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from dfnet.decoding import Rule, decode
from dfnet.errors import UnsupportedError

PROTOCOL = 1
"""Raised whenever a field is added, removed, or means something else."""

PAGE = "android_harness/PROTOCOL.md"
JOB_NAME = "job.json"
RESULT_NAME = "result.json"

XNNPACK_FORCE_FP16 = 4
"""TFLITE_XNNPACK_DELEGATE_FLAG_FORCE_FP16 of tflite/delegates/xnnpack/xnnpack_delegate.h."""

Runtime = Literal["executorch", "litert"]
Mode = Literal["parity", "burst", "sustained", "memory"]
Accelerator = Literal["cpu", "gpu"]
DType = Literal["float32", "float16", "int8", "uint8", "int16", "int32"]

ITEM_BYTES: dict[str, int] = {
    "float32": 4,
    "float16": 2,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "int32": 4,
}
"""Bytes of one value of each dtype."""


def _between(low: float, high: float) -> Rule:
    return Rule(f"{low:g} to {high:g}", lambda v: low <= v <= high)


# Rules stand at module level: inside a class their lambdas would not see the module's names.
Version = Annotated[int, Rule(str(PROTOCOL), lambda v: v == PROTOCOL)]
FileName = Annotated[
    str,
    Rule(
        "1 to 100 letters, digits, '.', '_' or '-', the first a letter, a digit or '_'",
        lambda v: bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", v)),
    ),
]
Name = Annotated[
    str, Rule("1 to 200 printable characters", lambda v: v.isprintable() and 0 < len(v) <= 200)
]
Sha256 = Annotated[
    str,
    Rule("64 lowercase hexadecimal digits", lambda v: bool(re.fullmatch("[0-9a-f]{64}", v))),
]
Shape = Annotated[
    tuple[int, ...],
    Rule("1 to 8 dimensions of 1 or more", lambda v: 0 < len(v) <= 8 and min(v) >= 1),
]
Cpus = Annotated[
    tuple[int, ...],
    Rule(
        "different cores of 0 to 1023, at least one",
        lambda v: 0 < len(v) == len(set(v)) and min(v) >= 0 and max(v) < 1024,
    ),
]


@dataclass(frozen=True)
class JobInput:
    """One input: ``file`` holds its values, little-endian, in C order, in the model's layout."""

    name: Name
    file: FileName
    shape: Shape
    dtype: DType
    sha256: Sha256


@dataclass(frozen=True)
class JobOutput:
    """One output and the file it goes to."""

    name: Name
    file: FileName
    shape: Shape
    dtype: DType


@dataclass(frozen=True)
class Job:
    """What a runner is asked to do in one process; job.json.

    Raises:
        UnsupportedError: a field is not what PROTOCOL.md allows, or fields contradict each other.
    """

    runtime: Runtime
    artifact_file: FileName
    artifact_sha256: Sha256
    inputs: tuple[JobInput, ...]
    outputs: tuple[JobOutput, ...]
    mode: Mode = "parity"
    repeats: Annotated[int, _between(1, 1000)] = 1
    warmups: Annotated[int, _between(0, 100_000)] = 0
    runs: Annotated[int, _between(0, 1_000_000)] = 0
    seconds: Annotated[float, _between(0, 86_400)] = 0.0
    threads: Annotated[int, _between(1, 256)] | None = None
    cpus: Cpus | None = None
    accelerator: Accelerator = "cpu"
    xnnpack_flags: Annotated[int, _between(0, 2**31 - 1)] | None = None
    protocol: Version = PROTOCOL

    def __post_init__(self) -> None:
        for complaint in self._complaints():
            raise UnsupportedError(f"Job: {complaint}. See {PAGE}.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def write(self, folder: Path) -> Path:
        """Writes job.json into ``folder``, whole or not at all, and gives its path.

        Raises:
            ArtifactError: a field breaks a rule of PROTOCOL.md.
        """
        text = json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"
        decode(Job, json.loads(text), "Job", page=PAGE)
        temporary = folder / f"{JOB_NAME}.part"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, folder / JOB_NAME)
        return folder / JOB_NAME

    def _complaints(self) -> list[str]:
        files = [one.file for one in self.inputs] + [one.file for one in self.outputs]
        taken = [
            self.artifact_file,
            *files,
            JOB_NAME,
            RESULT_NAME,
            f"{JOB_NAME}.part",
            f"{RESULT_NAME}.part",
        ]
        untimed = (self.repeats, self.warmups, self.runs, self.seconds) == (1, 0, 0, 0)
        wrong = {
            "got no inputs or no outputs, needed all of the model's": not self.inputs
            or not self.outputs,
            "got one name or file twice, needed different ones": len(set(taken)) != len(taken)
            or any(len({one.name for one in of}) != len(of) for of in (self.inputs, self.outputs)),
            f"mode {self.mode}: got warm-ups, runs, seconds or several repeats, needed none": (
                self.mode in ("parity", "memory") and not untimed
            ),
            f"mode {self.mode}: got no runs, needed at least 1": self.mode in ("burst", "sustained")
            and self.runs < 1,
            "mode sustained: got 0 seconds, needed more": self.mode == "sustained"
            and self.seconds <= 0,
            "got an accelerator or XNNPACK flags, which ExecuTorch has not; needed cpu and null": (
                self.runtime == "executorch"
                and (self.accelerator != "cpu" or self.xnnpack_flags is not None)
            ),
        }
        return [complaint for complaint, holds in wrong.items() if holds]
