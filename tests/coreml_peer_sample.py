"""Chooses the peer cases that the tests run, from reports of whole runs.

``python tests/coreml_peer_sample.py REPORT.jsonl ...`` rewrites the lists next to it. Cases are
taken in turn from every test function of Apple's, in a fixed random order; the quick list holds
tests of single operations only, and at least one case for every operation type seen.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

QUICK_COUNT = 120
FULL_COUNT = 720
FAILED_PER_FUNCTION = 2
QUICK_FROM = "converters/mil/mil/ops/tests/"
HERE = Path(__file__).parent

Case = dict[str, Any]


def read(reports: Iterable[Path]) -> list[Case]:
    """Every case that reached a prediction, in the fixed random order."""
    lines = chain.from_iterable(path.read_text().splitlines() for path in reports)
    # Arrays in an id span lines; a list has one case per line.
    cases = [
        case
        for line in lines
        if (case := json.loads(line))["predictions"] and "\n" not in case["case"]
    ]
    return sorted(cases, key=lambda case: zlib.crc32(case["case"].encode(), 2))


def in_turn(cases: Sequence[Case], count: int) -> list[str]:
    """``count`` passed cases, from every function in turn."""
    functions: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        if case["outcome"] == "passed":
            functions[case["case"].partition("[")[0]].append(case["case"])
    turns = zip_longest(*functions.values())
    return [case for case in chain.from_iterable(turns) if case is not None][:count]


def covering(cases: Sequence[Case], chosen: Sequence[str]) -> list[str]:
    """``chosen``, and a passed case for each operation type that it lacks."""
    seen = {o for case in cases if case["case"] in set(chosen) for o in case["operations"]}
    found = list(chosen)
    for case in cases:
        if case["outcome"] == "passed" and not set(case["operations"]) <= seen:
            seen |= set(case["operations"])
            found.append(case["case"])
    return found


def failures(cases: Sequence[Case]) -> list[str]:
    """A few failed cases of every function that has some."""
    functions: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        if case["outcome"] in ("failed", "unsupported"):
            functions[case["case"].partition("[")[0]].append(case["case"])
    return [case for group in functions.values() for case in group[:FAILED_PER_FUNCTION]]


def write(name: str, cases: Iterable[str]) -> None:
    (HERE / name).write_text("".join(f"{case}\n" for case in sorted(set(cases))))


if __name__ == "__main__":
    found = read(Path(name) for name in sys.argv[1:])
    single = [case for case in found if case["case"].startswith(QUICK_FROM)]
    write("coreml_peer_quick.txt", covering(single, in_turn(single, QUICK_COUNT)))
    write("coreml_peer_full.txt", [*covering(found, in_turn(found, FULL_COUNT)), *failures(found)])
