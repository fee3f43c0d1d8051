"""Chooses the peer cases that the tests run, from reports of whole runs.

``python tests/coreml_peer_sample.py REPORT.jsonl ...`` rewrites the lists next to it and the totals
in docs/coreml-peer.json; of a case in several reports the last one counts. Cases are taken in turn
from every test function of Apple's, in a fixed random order; the quick list holds tests of single
operations only, and at least one case for every operation type seen. A failure that nothing here
explains is an error.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

QUICK_COUNT = 120
FULL_COUNT = 720
FAILED_PER_FUNCTION = 2
QUICK_FROM = "converters/mil/mil/ops/tests/"
HERE = Path(__file__).parent
TOTALS = HERE.parent / "docs" / "coreml-peer.json"

Case = dict[str, Any]

EXPLANATIONS: dict[str, tuple[str, ...]] = {
    "Tensors are float16, the tolerance is float32's (1e-4), and the expectation was computed in "
    "another order or precision. All are within 2e-3 of the largest magnitude.": (
        "TestConv::test_builder_to_backend_stress",
        "TestConvTranspose::test_builder_to_backend_stress",
        "TestNormalizationInstanceNorm::",
        "TestNormalizationL2Norm::",
        "TestResample::test_builder_to_backend_smoke_iOS16",
        "coordinates_dtype=<class 'numpy.float16'>",
    ),
    "Rounding to float16, as the file declares, is amplified by the operation (a negative power, a "
    "variance of few values, a cancelling sum, a comparison with 0.5). They pass in float32 "
    "arithmetic.": (
        "TestLinAlgNorms::test_norm",
        "TestLinAlgVectorNorms::test_norm",
        "TestGroupNorm::test_groupnorm_rank2_input",
        "TestEinsum::",
        "TestIndex::test_index_bool_indices",
    ),
    "Indices out of range, which Core ML leaves undefined: the evaluator refuses them.": (
        "::test_ios17_invalid_indices",
    ),
    "coremltools casts a negative index to uint16, which puts it out of range.": (
        "TestIndexPut::test_index_put_negative_indices_case_2",
    ),
    "Local response normalization of three dimensions: Apple's exact test and its loose one expect "
    "sums along different dimensions. The exact one is followed.": (
        "TestNormalizationLocalResponseNorm::test_builder_to_backend_stress",
    ),
    "Grids of crop_resize that its definition does not pin down: the evaluator refuses them.": (
        "TestCropResize::test_builder_to_backend_smoke",
    ),
    "Apple's expected constant has four digits (7.8990 for 7.9).": (
        "TestCropResize::test_builder_to_backend_ios16",
        "TestCropResize::test_builder_to_backend_ios17",
    ),
    "Looks at the casts of the converted program, not at results.": (
        "TestResample::test_builder_to_backend_smoke",
        "TestGather::test_gather_nd_int16_indices",
    ),
    "Expects the wording of Core ML's refusal; the evaluator refuses in its own words.": (
        "TestTorchInputs::test_torch_enumerated_shapes",
        "TestTorchInputs::test_torch_outofbound_range_dim",
    ),
    "Expects Core ML to refuse tensors whose declared sizes may differ but here do not.": (
        "TestStack::test_stack_dynamic_range_dim",
    ),
    "Deletes the model before it predicts; the evaluator opens files when they are first run.": (
        "TestInputOutputConversionAPI::test_color_output",
    ),
}
"""Why cases fail -> parts of their ids; the first that fits holds."""


def read(reports: Iterable[Path]) -> list[Case]:
    """Every case that reached a prediction, in the fixed random order."""
    lines = chain.from_iterable(path.read_text().splitlines() for path in reports)
    latest = {case["case"]: case for case in map(json.loads, lines)}
    cases = [case for case in latest.values() if case["predictions"]]
    return sorted(cases, key=lambda case: zlib.crc32(case["case"].encode(), 2))


def listable(cases: Iterable[Case]) -> list[Case]:
    """Those whose id fits a line and is the same next time: some hold arrays or addresses."""
    return [case for case in cases if "\n" not in case["case"] and " at 0x" not in case["case"]]


def is_failure(case: Case) -> bool:
    return case["outcome"] in ("failed", "unsupported")


def explain(case: str) -> str:
    """Raises ValueError when nothing explains the failure of ``case``."""
    for reason, parts in EXPLANATIONS.items():
        if any(part in case for part in parts):
            return reason
    raise ValueError(f"nothing explains why {case} fails")


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
    for case in filter(is_failure, cases):
        functions[case["case"].partition("[")[0]].append(case["case"])
    return [case for group in functions.values() for case in group[:FAILED_PER_FUNCTION]]


def write(name: str, cases: Iterable[str]) -> None:
    (HERE / name).write_text("".join(f"{case}\n" for case in sorted(set(cases))))


def write_explained(cases: Iterable[str]) -> None:
    classes: dict[str, list[str]] = defaultdict(list)
    for case in sorted(cases):
        classes[explain(case)].append(case)
    entries = [{"reason": reason, "cases": found} for reason, found in classes.items()]
    (HERE / "coreml_peer_explained.json").write_text(json.dumps(entries, indent=1) + "\n")


def totals(cases: Sequence[Case]) -> Counter[str]:
    """Cases that reached a prediction: passed, and failed by reason."""
    return Counter(
        explain(case["case"]) if is_failure(case) else str(case["outcome"]) for case in cases
    )


def main(reports: Sequence[str]) -> None:
    """Writes the lists, and the totals that docs/coreml-evaluator.md quotes."""
    found = read(map(Path, reports))
    operations = [case for case in found if case["case"].startswith(QUICK_FROM)]
    others = [case for case in found if not case["case"].startswith(QUICK_FROM)]
    groups = {"operations": operations, "others": others}
    summary = {name: {"predicted": len(group), **totals(group)} for name, group in groups.items()}
    TOTALS.write_text(json.dumps(summary, indent=1) + "\n")
    quick, full = listable(operations), listable(found)
    failed = failures(full)
    write("coreml_peer_quick.txt", covering(quick, in_turn(quick, QUICK_COUNT)))
    write("coreml_peer_full.txt", [*covering(full, in_turn(full, FULL_COUNT)), *failed])
    write_explained(failed)


if __name__ == "__main__":
    main(sys.argv[1:])
