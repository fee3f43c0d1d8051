"""Latencies measured on devices: what is taken, what is refused, and the rows they become."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.command import report
from benchmarks.device_results import all_device_latencies
from benchmarks.row import Row
from benchmarks.rows import build_rows
from benchmarks.selection import read_artifacts
from dfnet.artifact import Artifact
from dfnet.console import run_command
from dfnet.model import DFNet

from device_files import a_device, a_repeat, a_result, an_accelerator, write
from fake_artifacts import write_artifact
from fakes import use_fake_runtime

Value = dict[str, Any]


class Desk:
    """An output folder with an fp32 and an int8 file, and the command line."""

    def __init__(self, root: Path, network: DFNet, capfd: pytest.CaptureFixture[str]) -> None:
        self.root, self.output = root, root / "out"
        self.fp32 = write_artifact(self.output, network, platform="ios")
        self.int8 = write_artifact(self.output, network, platform="ios", recipe="int8", padding=8)
        self._capfd = capfd

    def take(self, *results: object) -> tuple[int, str]:
        """Imports ``results``; the exit code and everything printed, on one line."""
        files = [write(self.root / f"r{i}.json", value) for i, value in enumerate(results)]
        return self.command("import", *map(str, files))

    def command(self, *arguments: str) -> tuple[int, str]:
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            run_command(main, [*arguments, "--output", str(self.output)])
        assert isinstance(exit_info.value.code, int)
        return exit_info.value.code, " ".join("".join(self._capfd.readouterr()).split())

    def rows(self, artifact: Artifact | None = None) -> list[Row]:
        """The rows of devices."""
        found = all_device_latencies(self.output / "results")
        rows = build_rows(read_artifacts(self.output), [], [], found)
        wanted = (artifact or self.fp32).manifest.artifact_sha256
        return [row for row in rows if row.runner and row.artifact_sha256 == wanted]

    @property
    def kept(self) -> list[Path]:
        return sorted((self.output / "results").glob("*.device.json"))


@pytest.fixture
def desk(
    tmp_path: Path,
    tiny_network: DFNet,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Desk:
    use_fake_runtime(monkeypatch)
    return Desk(tmp_path, tiny_network, capfd)


def test_an_imported_result_becomes_a_row(desk: Desk) -> None:
    code, said = desk.take(a_result(desk.fp32))
    assert code == 0
    assert f"{desk.fp32.id} on iPhone 14 Pro" in said
    assert "median 20.20 ms, VALID" in said
    (row,) = desk.rows()
    assert (row.device, row.device_kind, row.accelerator) == (
        "iPhone 14 Pro",
        "device",
        "cpu+neural_engine",
    )
    assert row.median_ms == pytest.approx(20.2)
    assert (row.latency_validity, row.latency_protocol) == ("VALID", "device-1")
    assert (row.latency_ratio, row.latency_reason, row.threads) == (1.0, None, None)
    assert (row.verdict, row.reason) == ("not run", "outputs were not compared on this device")
    assert (row.psnr_db, row.splits, row.hops) == (None, {}, [])
    json.dumps(row.to_json(), allow_nan=False)


def test_reports_show_the_device_beside_the_rows_of_this_machine(
    desk: Desk, capfd: pytest.CaptureFixture[str]
) -> None:
    desk.take(a_result(desk.fp32))
    report(None, desk.output, as_json=False)
    text = capfd.readouterr().out
    assert "20.2 ms, 1.00" in text.replace("\n", " ") or "20.2 ms," in text
    assert "iPhone 14" in text
    report(None, desk.output, as_json=True)
    rows = json.loads(capfd.readouterr().out)
    assert [row["device"] for row in rows] == [None, "iPhone 14 Pro", None]
    assert "iPhone 14 Pro CPU+ANE" in (desk.output / "results" / "report.md").read_text()


def test_importing_again_replaces(desk: Desk) -> None:
    desk.take(a_result(desk.fp32))
    slower = [a_repeat(samples_ms=[40.0] * 50) for _ in range(3)]
    assert desk.take(a_result(desk.fp32, repeats=slower))[0] == 0
    (row,) = desk.rows()
    assert row.median_ms == 40.0


def test_another_accelerator_or_device_is_kept_beside_it(desk: Desk) -> None:
    on_cpu = an_accelerator(asked=["cpu"], ran=["cpu"], evidence="only choice", placement=None)
    other = a_device(name="iPhone 15 Pro", model="iPhone16,1")
    assert desk.take(a_result(desk.fp32), a_result(desk.fp32, accelerator=on_cpu))[0] == 0
    assert desk.take(a_result(desk.fp32, device=other))[0] == 0
    assert len(desk.rows()) == len(desk.kept) == 3


def test_ratio_is_over_fp32_on_the_same_device_and_accelerator(desk: Desk) -> None:
    faster = [a_repeat(samples_ms=[10.1] * 100) for _ in range(3)]
    assert desk.take(a_result(desk.fp32), a_result(desk.int8, repeats=faster))[0] == 0
    (row,) = desk.rows(desk.int8)
    assert row.latency_ratio == pytest.approx(0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"device": a_device(name="iPhone 15 Pro")},
        {"device": a_device(os_version="18.0 (22A1)")},
        {"accelerator": an_accelerator(ran=["cpu", "gpu"])},
        {"threads": 4},
        {"cold": "process"},
    ],
)
def test_no_ratio_over_an_unlike_fp32_result(desk: Desk, change: Value) -> None:
    assert desk.take(a_result(desk.fp32, **change), a_result(desk.int8))[0] == 0
    (row,) = desk.rows(desk.int8)
    assert row.latency_ratio is None
    assert row.latency_reason == "no ratio (no fp32 result of iPhone 14 Pro on cpu+neural_engine)"
    assert row.median_ms is not None


def test_no_ratio_over_an_invalid_fp32_result(desk: Desk) -> None:
    warm = [a_repeat(thermal_after="serious") for _ in range(3)]
    assert desk.take(a_result(desk.fp32, repeats=warm), a_result(desk.int8))[0] == 0
    (row,) = desk.rows(desk.int8)
    assert row.latency_ratio is None
    assert "INVALID" in str(row.latency_reason)


Spoil = Callable[[Value], object]


def repeats(**changes: Any) -> Spoil:
    return lambda value: value | {"repeats": [a_repeat(**changes) for _ in range(3)]}


def changed(**changes: Any) -> Spoil:
    return lambda value: value | changes


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda v: v | {"repeats": v["repeats"][:2]}, "2 cold repeats, needed 3"),
        (repeats(warmup_ms=[20.0] * 4), "4 warm-ups, needed 5"),
        (repeats(samples_ms=[30.0] * 49), "a repeat of 49 runs, needed 50"),
        (repeats(samples_ms=[2.0] * 50), "a repeat of 0.10 s, needed 1 s"),
        (repeats(thermal_before="fair"), "thermal state fair"),
        (repeats(thermal_after=None), "thermal state not reported"),
        (repeats(low_power_mode=True), "low-power mode on"),
        (repeats(low_power_mode=None), "low-power mode not reported"),
        (repeats(battery_percent=19, charging=False), "battery at 19 %, needed 20 %"),
        (repeats(battery_percent=50, charging=True), "charging at 50 %"),
        (repeats(battery_percent=None), "battery not reported"),
        (repeats(samples_ms=[10.0, 50.0] * 25), "samples vary by"),
        (changed(repeats=[a_repeat(samples_ms=[m] * 60) for m in (20, 20, 30)]), "repeats spread"),
        (changed(doubts=["a debugger was attached"]), "a debugger was attached"),
        (changed(accelerator=an_accelerator(asked=["gpu"], ran=["cpu"])), "ran on cpu, asked for"),
    ],
)
def test_validity_is_judged_here(desk: Desk, spoil: Spoil, reason: str) -> None:
    code, said = desk.take(spoil(a_result(desk.fp32)))
    assert code == 0
    assert "INVALID" in said
    (row,) = desk.rows()
    assert reason in str(row.latency_validity)


def test_a_mac_needs_no_battery_and_is_a_host(desk: Desk) -> None:
    mains = [a_repeat(battery_percent=None, charging=None) for _ in range(3)]
    mac = a_device(kind="host", name="Mac14,2", os="macOS")
    assert desk.take(a_result(desk.fp32, device=mac, repeats=mains))[0] == 0
    (row,) = desk.rows()
    assert (row.latency_validity, row.device_kind) == ("VALID", "host")


def without(*names: str) -> Spoil:
    return lambda value: {name: v for name, v in value.items() if name not in names}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (changed(protocol=2), "protocol: got 2, needed 1"),
        (changed(protocol=True), "protocol: got True, needed 1"),
        (without("protocol"), "protocol: got null, needed 1"),
        (without("doubts"), "got no field 'doubts'"),
        (changed(validity="VALID"), "unknown field 'validity'"),
        (repeats(median_ms=1.0), "repeats[0]: got the unknown field 'median_ms'"),
        (repeats(samples_ms=[]), "repeats[0].samples_ms: got [], needed at least one sample"),
        (repeats(samples_ms=[1.0, float("nan")]), "samples_ms[1]: got nan, needed a finite"),
        (repeats(samples_ms=[float("inf")]), "samples_ms[0]: got inf, needed a finite"),
        (repeats(samples_ms=[10**400]), "needed a finite number"),
        (repeats(samples_ms=[-1.0]), "samples_ms[0]: got -1.0, needed a time over 0 ms"),
        (repeats(samples_ms=[True]), "samples_ms[0]: got True, needed a number"),
        (repeats(samples_ms="20"), "samples_ms: got '20', needed a list"),
        (repeats(first_ms=None), "first_ms: got null, needed a number"),
        (repeats(load_ms=-0.5), "load_ms: got -0.5"),
        (repeats(thermal_before="hot"), "needed one of nominal, fair, serious, critical"),
        (repeats(battery_percent=101), "needed a percentage"),
        (changed(repeats=[]), "repeats: got [], needed at least one repeat"),
        (changed(artifact_sha256="abc"), "needed 64 lowercase hexadecimal digits"),
        (changed(artifact_sha256="A" * 64), "needed 64 lowercase hexadecimal digits"),
        (changed(artifact_sha256="0" * 64), "Export with `make export-ios`"),
        (changed(accelerator=None), "accelerator: got null, needed a value"),
        (changed(accelerator=an_accelerator(ran=[])), "needed at least one unit, each once"),
        (changed(accelerator=an_accelerator(ran=["tpu"])), "needed one of cpu, gpu"),
        (changed(device=a_device(kind="emulator")), "Time there is not latency"),
        (changed(device=a_device(kind="simulator")), "Time there is not latency"),
        (changed(device=a_device(kind="evaluator")), "needed one of host, emulator"),
        (changed(device=a_device(name="a\nb")), "needed one line"),
        (changed(device="iPhone"), "device: got 'iPhone', needed an object"),
        (changed(threads=0), "threads: got 0, needed 1 or more"),
        (changed(error={"stage": "predicting", "message": "x"}), "got repeats and an error"),
        (without("repeats"), "got neither repeats nor an error"),
        (
            changed(repeats=None, error={"stage": "hashing the artifact", "message": "got\nabc"}),
            "failed at hashing the artifact (got abc)",
        ),
        (lambda _: [], "got [], needed an object"),
    ],
)
def test_bad_results_are_refused_in_one_sentence(desk: Desk, spoil: Spoil, words: str) -> None:
    code, said = desk.take(spoil(a_result(desk.fp32)))
    assert code == 2
    assert words in said
    assert "Traceback" not in said
    assert "r0.json" in said
    assert desk.kept == []


@pytest.mark.parametrize("text", ["", "{", '{"protocol": 1, "protocol": 1}', "[" * 100_000])
def test_what_is_no_json_is_refused(desk: Desk, text: str) -> None:
    path = desk.root / "result.json"
    path.write_text(text)
    code, said = desk.command("import", str(path))
    assert (code, "cannot be read" in said) == (2, True)
    assert desk.command("import", str(desk.root / "absent.json"))[0] == 2


def test_nothing_is_written_when_a_later_file_is_bad(desk: Desk) -> None:
    code, said = desk.take(a_result(desk.fp32), a_result(desk.int8, protocol=9))
    assert (code, "r1.json" in said) == (2, True)
    code, said = desk.take(a_result(desk.fp32), a_result(desk.fp32))
    assert (code, "needed each once" in said) == (2, True)
    assert desk.kept == []


def test_a_kept_file_that_was_spoilt_is_left_out(desk: Desk) -> None:
    desk.take(a_result(desk.fp32))
    desk.kept[0].write_text("{}")
    assert desk.rows() == []


def test_results_of_a_file_exported_anew_do_not_count(desk: Desk, tiny_network: DFNet) -> None:
    desk.take(a_result(desk.fp32))
    desk.fp32 = write_artifact(desk.output, tiny_network, platform="ios", padding=3)
    assert desk.rows() == []
