"""``python -m export lint``: what is found in a network, and what the command makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from phone_ops import OPERATIONS, RULES_OF, Between
from torch import Tensor, nn

from dfnet.capture import Split
from dfnet.captureset import CaptureSet
from dfnet.errors import CalibrationError
from dfnet.model import DFNet
from dfnet.signature import Feed
from export.__main__ import main
from export.lint.matching import Finding, find
from export.lint.overflow import FLOAT16_MAX, HEADROOM, Magnitude, measure_magnitudes
from export.lint.rules import RULES, Consequence, Effect, FileKind
from quantize.fuse import fuse

from small_networks import SmallNetwork

ANDROID = [
    FileKind(runtime, "xnnpack", recipe)
    for runtime in ("litert", "executorch")
    for recipe in ("fp32", "int8")
]
LITERT_FP32, LITERT_INT8 = ANDROID[0], ANDROID[1]


def found(name: str, *kinds: FileKind) -> tuple[Finding, ...]:
    return find(Between(OPERATIONS[name]()).eval(), kinds or ANDROID)


def names(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.rule.name for finding in findings}


def test_every_operator_has_its_rules_and_no_other() -> None:
    assert RULES_OF.keys() == OPERATIONS.keys()
    everywhere = [*ANDROID, FileKind("coreml", "coreml", "fp16")]
    for name, expected in RULES_OF.items():
        assert names(found(name, *everywhere)) == set(expected), name


def test_every_rule_is_shown_by_some_operator() -> None:
    assert {rule.name for rule in RULES} == {name for names in RULES_OF.values() for name in names}


def test_a_finding_says_where_in_the_source_it_is() -> None:
    (finding,) = found("elu")
    assert finding.is_problem
    (place,) = finding.places
    assert "small_networks.py:" in place


def test_a_rule_of_int8_says_nothing_of_float_files() -> None:
    assert names(found("transposed", LITERT_INT8)) == {"transposed convolution"}
    assert not found("transposed", LITERT_FP32)
    assert not found("transposed", FileKind("executorch", "xnnpack", "int8"))


def test_core_ml_files_of_executorch_follow_core_ml_rows() -> None:
    assert names(found("bicubic", FileKind("executorch", "coreml", "fp16")))
    assert not found("elu", FileKind("executorch", "coreml", "fp16"))


def test_problems_come_before_notes_and_notes_are_none() -> None:
    severities = [finding.is_problem for finding in found("const_minus")]
    assert severities == [True, False]
    assert not any(finding.is_problem for finding in found("prelu"))


def test_the_shipped_architecture_has_one_operator_off_the_delegate(
    tiny_network: DFNet, feed: Feed
) -> None:
    assert names(find(fuse(tiny_network, [feed]), ANDROID)) == {"average pooling"}


@pytest.mark.parametrize("consequence", Consequence)
def test_only_float_inside_the_delegate_is_a_mere_note(consequence: Consequence) -> None:
    assert consequence.is_problem == (consequence is not Consequence.FLOAT)
    assert consequence.value in str(Effect("litert", consequence))


class Loud(SmallNetwork):
    """Features a thousand times louder than pictures, and quiet again."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.head = nn.Conv2d(3, 3, 1)
        nn.init.ones_(self.head.weight)

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        loud: Tensor = self.head(wide * self.gain)
        return loud / self.gain


def test_values_beyond_float16_are_found_by_name(feed: Feed) -> None:
    loudest = measure_magnitudes(Loud(1e5).eval(), [feed])[0]
    assert loudest.overflows
    assert loudest.module == "head"
    assert loudest.largest > FLOAT16_MAX
    assert not any(m.overflows for m in measure_magnitudes(Loud(1e2).eval(), [feed]))


def test_headroom_is_kept_below_the_limit() -> None:
    assert Magnitude("x", "", 1.01 * FLOAT16_MAX / HEADROOM).overflows
    assert not Magnitude("x", "", 0.99 * FLOAT16_MAX / HEADROOM).overflows
    assert Magnitude("x", "", float("nan")).overflows
    assert Magnitude("x", "", 0.0).to_json()["headroom"] is None


def test_nan_in_one_feed_of_several_is_not_lost(feed: Feed) -> None:
    broken = {name: array.copy() for name, array in feed.items()}
    broken["wide"][0, 0, 0, 0] = float("nan")
    assert measure_magnitudes(Loud(1.0).eval(), [feed, broken, feed])[0].overflows


def test_no_feeds_are_an_error() -> None:
    with pytest.raises(CalibrationError, match="got 0 feeds"):
        measure_magnitudes(Loud(1.0).eval(), [])


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(
    tmp_path: Path,
    make_capture_set: Callable[..., CaptureSet],
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs ``export lint`` on a network of phone_ops.py; exit code and standard output."""
    calibration = make_capture_set(Split.CALIBRATION, 16)

    def call(factory: str, *arguments: str) -> tuple[int, str]:
        places = ("--calibration", str(calibration.root), "--output", str(tmp_path / "out"))
        command = ["lint", "--factory", factory, *places, *arguments]
        code = main.main(command, standalone_mode=False)
        return code, capsys.readouterr().out

    return call


def test_a_problem_exits_with_1_and_names_place_and_rewrite(run: Run) -> None:
    code, output = run("phone_ops:with_elu", "--platform", "android", "--recipe", "fp32")
    assert code == 1
    assert "elu" in output
    assert "outside the delegate" in output
    assert "1 problem, 0 notes for 3 files." in output


def test_notes_alone_exit_with_0(run: Run) -> None:
    code, output = run(
        "phone_ops:with_prelu", "--platform", "android", "--recipe", "int8", "--json"
    )
    data = json.loads(output)
    assert code == 0
    assert (data["problems"], data["float16"]) == (0, None)
    assert [finding["severity"] for finding in data["findings"]] == ["note"]


def test_float16_is_measured_where_files_compute_in_it(run: Run) -> None:
    code, output = run("phone_ops:with_prelu", "--platform", "ios", "--runtime", "coreml", "--json")
    data = json.loads(output)
    assert code == 0
    assert data["float16"][0]["largest"] >= data["float16"][-1]["largest"]
    assert not any(tensor["overflows"] for tensor in data["float16"])
