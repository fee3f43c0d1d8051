"""Runs files on devices behind adb: parity on all, latency on phones, instructions on emulators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from android_harness.adb import ConnectionLostError
from android_harness.bundle import Bundle
from android_harness.conditions import big_cores, read_conditions
from android_harness.facts import DeviceIdentity, identify
from android_harness.image import Image
from android_harness.install import InstalledBundle, installed
from android_harness.job_result import RunnerBuild
from android_harness.latency import Amount, measure
from android_harness.machine import Hardware
from android_harness.runner import AndroidRunner, Settings
from android_harness.target import emulated
from android_harness.transport import Transport
from benchmarks.android_results import device_result
from benchmarks.device_parity import SCHEMA, DeviceParity, InsnProxy, compare_outputs
from benchmarks.device_protocol import DeviceFacts, RunnerFacts
from benchmarks.device_results import DeviceLatency, keep, result_path
from dfnet.artifact import Artifact
from dfnet.capture import Image as Picture
from dfnet.errors import DeviceError
from dfnet.signature import OUTPUT, Feed

Say = Callable[[str], None]
_COUNTED_RUNS = 3
"""Timed inferences of a boot: the kernel now and then does something else during one."""


@dataclass(frozen=True)
class Specimen:
    """A file, what it is given, and what it makes of that on this machine, (1, 3, H, W)."""

    artifact: Artifact
    feed: Feed
    reference: Picture


@dataclass(frozen=True)
class Manner:
    """How devices run files; ``bundle`` gives the runners for an ABI.

    ``amount`` is of a phone's latency, None for parity alone. ``fastest_cores`` binds the threads
    to the phone's fastest cores. ``results`` is the folder where latencies are kept.
    """

    bundle: Callable[[str], Bundle]
    settings: Settings
    results: Path
    amount: Amount | None = None
    fastest_cores: bool = False
    patience_s: float = 600.0


def run_on(
    transport: Transport, specimens: Sequence[Specimen], manner: Manner, *, name: str, say: Say
) -> Iterator[tuple[Specimen, DeviceParity]]:
    """Every specimen on one device, which reports call ``name``; latency too, if it is a phone.

    A file that fails there is a failed result, and the next one is run.

    Raises:
        ConnectionLostError: the device does not come back.
        DeviceError: it cannot take the runners.
    """
    identity = identify(transport)
    known = replace(identity.device, name=name)
    with installed(transport, manner.bundle(identity.abi)) as there:
        settings = _settings(transport, manner)
        for specimen in specimens:
            ready = replace(manner, settings=settings)
            yield specimen, _run(there, specimen, ready, replace(identity, device=known), say)


def count_instructions(
    image: Image, specimens: Sequence[Specimen], manner: Manner, *, boots: int, say: Say
) -> dict[str, InsnProxy]:
    """By the files' sha256: each on one core of ``boots`` emulated devices whose clock counts.

    Raises:
        DeviceError: a boot or a run fails.
    """
    hardware = Hardware(icount=True)
    found: dict[str, list[tuple[float, ...]]] = {}
    for boot in range(boots):
        say(f"Count instructions, boot {boot + 1} of {boots}")
        with (
            emulated(image, hardware) as transport,
            installed(transport, manner.bundle(identify(transport).abi)) as there,
        ):
            for specimen in specimens:
                samples = _counted(there, specimen, replace(manner.settings, threads=1, cpus=None))
                found.setdefault(specimen.artifact.manifest.artifact_sha256, []).append(samples)
    machine = f"{hardware.cpu}, 1 core, 1 instruction a nanosecond"
    return {sha256: InsnProxy(machine, tuple(times)) for sha256, times in found.items()}


def _counted(there: InstalledBundle, specimen: Specimen, settings: Settings) -> tuple[float, ...]:
    with AndroidRunner(specimen.artifact, there, settings) as runner:
        ran = runner.run(specimen.feed, mode="burst", warmups=1, runs=_COUNTED_RUNS)
    (repeat,) = ran.result.repeats or ()
    return repeat.samples_ms


def _settings(transport: Transport, manner: Manner) -> Settings:
    if not manner.fastest_cores:
        return manner.settings
    clocks = read_conditions(transport).clocks
    return replace(manner.settings, cpus=big_cores(clocks, manner.settings.threads or 1))


def _run(
    there: InstalledBundle, specimen: Specimen, manner: Manner, identity: DeviceIdentity, say: Say
) -> DeviceParity:
    blank = DeviceParity(
        schema=SCHEMA,
        artifact_sha256=specimen.artifact.manifest.artifact_sha256,
        device=_device_facts(identity),
        runner=None,
        accelerator=None,
        threads=manner.settings.threads,
        figures=None,
        error=None,
        insn_proxy=None,
    )
    try:
        with AndroidRunner(specimen.artifact, there, manner.settings) as runner:
            ran = runner.run(specimen.feed)
            compared = compare_outputs(specimen.reference, ran.output[OUTPUT])
            if manner.amount is not None and identity.device.kind == "device":
                _time(runner, specimen, manner, manner.amount, identity, say)
    except ConnectionLostError:
        raise
    except DeviceError as error:
        return replace(blank, error=str(error))
    ran_by = replace(
        blank, runner=_runner_facts(ran.result.runner), accelerator=ran.result.accelerator
    )
    if isinstance(compared, str):
        return replace(ran_by, error=compared)
    return replace(ran_by, figures=compared)


def _time(
    runner: AndroidRunner,
    specimen: Specimen,
    manner: Manner,
    amount: Amount,
    identity: DeviceIdentity,
    say: Say,
) -> None:
    """Measures a phone's latency and keeps it among the results."""
    found = measure(runner, specimen.feed, amount, patience_s=manner.patience_s, say=say)
    named = replace(found, identity=identity)
    result = device_result(named, asked=manner.settings.accelerator)
    if result.accelerator is None or result.repeats is None:
        raise DeviceError(
            f"Latency on {identity.device.name}: got no accelerator or repeats, needed both."
        )
    latency = DeviceLatency(result, result.accelerator, result.repeats)
    keep(result_path(manner.results, specimen.artifact, latency), latency)


def _device_facts(identity: DeviceIdentity) -> DeviceFacts:
    return DeviceFacts(
        kind="emulator" if identity.device.kind == "emulator" else "device",
        name=identity.device.name,
        model=identity.model,
        os="Android" if identity.os_version else "Linux behind adb",
        os_version=identity.os_version or "not reported",
        soc=identity.soc,
    )


def _runner_facts(build: RunnerBuild) -> RunnerFacts:
    version = f"{build.version} ({build.sdk}; {build.compiler})"
    return RunnerFacts(build.name, version, build.abi, build.libc)
