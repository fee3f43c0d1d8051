"""What ``python -m benchmarks device`` does: files on devices, one result each, a table of all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from android_harness.bundle import Bundle, build_bundle
from android_harness.facts import identify
from android_harness.image import Image, build_image
from android_harness.job import XNNPACK_FORCE_FP16, Accelerator, Runtime
from android_harness.latency import Amount
from android_harness.own_runner import own_bundle
from android_harness.runner import Settings
from android_harness.target import EMULATOR, emulated, phone
from android_harness.transport import Transport
from benchmarks.command import Options, prepare
from benchmarks.device_choice import emulable, is_small, runnable
from benchmarks.device_parity import DeviceParity, InsnProxy, keep
from benchmarks.device_table import print_devices
from benchmarks.latency import FULL
from benchmarks.mosaic import fill_frame
from benchmarks.on_devices import Manner, Specimen, count_instructions, run_on
from benchmarks.publishing import point_to, write_report
from dfnet.artifact import Artifact
from dfnet.captureset import open_captures
from dfnet.console import EXIT_MISSED_BAR, EXIT_OK, Progress, results_console
from dfnet.logs import log_records_to
from dfnet.signature import OUTPUT
from export import load_runtime
from export.sdk_log import sdk_log

Found = tuple[Specimen, DeviceParity]


@dataclass(frozen=True)
class DeviceOptions:
    """The options of ``device`` beyond those of other commands; see ``--help``.

    ``runner_binary`` is the user's own runner, of the one runtime that is chosen. ``boots`` is how
    often an emulated device counts instructions; 0 leaves that out.
    """

    devices: tuple[str, ...] = ()
    mode: Literal["burst", "sustained"] = "burst"
    seconds: float = FULL.seconds
    parity_only: bool = False
    fastest_cores: bool = False
    accelerator: Accelerator = "cpu"
    xnnpack_fp16: bool = False
    runner_binary: Path | None = None
    boots: int = 1


def run(options: Options, asked: DeviceOptions) -> int:
    """Runs the chosen files on every device at the same time; 1 when a bar is missed.

    Raises:
        UnsupportedError: no file is chosen that a native runner takes.
        DeviceError: a device is missing, or was lost; results of the others are kept.
    """
    chosen = runnable(prepare(options), asked.runner_binary, fp16=asked.xnnpack_fp16)
    names = asked.devices or (None,)
    with log_records_to(options.log), Progress() as progress:
        emulates = EMULATOR in names
        if emulates and not (options.recipes or options.resolutions):
            chosen = emulable(chosen, say=progress.say)
        # Before any file runs here: a device that is missing is found at once.
        phones = [phone(name) for name in names if name != EMULATOR]
        specimens = _specimens(chosen, options, progress)
        manner = _manner(options, asked, chosen)
        tasks = [_on_phone(one, phones, specimens, manner, progress) for one in phones]
        if emulates:
            tasks.append(_on_emulator(options, specimens, manner, asked.boots, progress))
        found = _together(tasks)
    _show(found, options)
    passed = all(one.verdict(specimen.artifact.manifest).is_passed for specimen, one in found)
    return EXIT_OK if passed else EXIT_MISSED_BAR


def _specimens(
    artifacts: Sequence[Artifact], options: Options, progress: Progress
) -> tuple[Specimen, ...]:
    """Every file with what it makes of a mosaic of captures on this machine."""
    captures = tuple(open_captures(options.captures))
    found = []
    with progress.step("Run the files on this machine"), sdk_log(options.log):
        for artifact in artifacts:
            feed = fill_frame(captures, artifact.manifest.resolution)[0].feed
            runtime = load_runtime(artifact.manifest.runtime)
            with runtime.open(artifact, threads=options.thread_count) as runner:
                found.append(Specimen(artifact, feed, runner.infer(feed)[OUTPUT]))
    return tuple(found)


def _manner(options: Options, asked: DeviceOptions, artifacts: Sequence[Artifact]) -> Manner:
    output, binary = options.output, asked.runner_binary

    def bundle(abi: str) -> Bundle:
        if binary is None:
            return build_bundle(abi, output=output)
        runtime: Runtime = artifacts[0].manifest.runtime  # type: ignore[assignment]
        return own_bundle(binary, runtime, output=output)

    amount = Amount(FULL.repeats, FULL.warmups, FULL.runs, asked.seconds, asked.mode)
    settings = Settings(
        threads=options.threads,
        accelerator=asked.accelerator,
        xnnpack_flags=XNNPACK_FORCE_FP16 if asked.xnnpack_fp16 else None,
    )
    return Manner(
        bundle=bundle,
        settings=settings,
        results=output / "results",
        amount=None if asked.parity_only else amount,
        fastest_cores=asked.fastest_cores,
    )


def _on_phone(
    transport: Transport,
    everyone: Sequence[Transport],
    specimens: Sequence[Specimen],
    manner: Manner,
    progress: Progress,
) -> Callable[[], list[Found]]:
    def task() -> list[Found]:
        own = identify(transport).device.name
        others = [identify(one).device.name for one in everyone if one is not transport]
        name = f"{own} {transport.serial}" if own in others else own
        return _run(transport, specimens, manner, name, progress)

    return task


def _on_emulator(
    options: Options,
    specimens: Sequence[Specimen],
    manner: Manner,
    boots: int,
    progress: Progress,
) -> Callable[[], list[Found]]:
    def task() -> list[Found]:
        image = build_image(output=options.output, progress=progress)
        small = [specimen for specimen in specimens if is_small(specimen.artifact)]
        # Instructions are counted on a second device meanwhile: other load does not alter a count.
        with ThreadPoolExecutor(1) as pool:
            counting = pool.submit(_count, image, small, manner, boots, progress)
            with emulated(image) as transport:
                name = identify(transport).device.name
                found = _run(transport, specimens, manner, name, progress)
            counts = counting.result()
        counted = [
            (s, replace(one, insn_proxy=counts.get(one.artifact_sha256))) for s, one in found
        ]
        for specimen, one in counted:
            keep(manner.results, specimen.artifact, one)
        return counted

    return task


def _count(
    image: Image, small: Sequence[Specimen], manner: Manner, boots: int, progress: Progress
) -> dict[str, InsnProxy]:
    if not boots or not small:
        return {}
    return count_instructions(image, small, manner, boots=boots, say=progress.say)


def _run(
    transport: Transport,
    specimens: Sequence[Specimen],
    manner: Manner,
    name: str,
    progress: Progress,
) -> list[Found]:
    """What ``run_on`` finds; each result is kept at once, whatever becomes of the device."""
    found = []
    for specimen, one in run_on(transport, specimens, manner, name=name, say=progress.say):
        keep(manner.results, specimen.artifact, one)
        progress.say(f"{name}: {specimen.artifact.id}: {one.verdict(specimen.artifact.manifest)}")
        found.append((specimen, one))
    return found


def _together(tasks: Sequence[Callable[[], list[Found]]]) -> list[Found]:
    """What all tasks found, run side by side; a lost device is told once the others are done.

    Raises:
        DFNetError: the first one that a task ended with.
    """
    with ThreadPoolExecutor(len(tasks)) as pool:
        futures: list[Future[list[Found]]] = [pool.submit(task) for task in tasks]
    errors = [error for future in futures if (error := future.exception()) is not None]
    if errors:
        raise errors[0]
    return [one for future in futures for one in future.result()]


def _show(found: Sequence[Found], options: Options) -> None:
    pages = write_report(options.output)
    console = results_console()
    if options.as_json:
        rows = [
            {
                **asdict(one),
                "artifact": specimen.artifact.id,
                "verdict": one.verdict(specimen.artifact.manifest).to_json(),
            }
            for specimen, one in found
        ]
        console.print_json(json.dumps(rows, allow_nan=False))
        return
    print_devices([(specimen.artifact, one) for specimen, one in found], console)
    console.print(f"Details: {options.output / 'results' / 'report.md'}", markup=False)
    point_to(pages, as_json=False)
