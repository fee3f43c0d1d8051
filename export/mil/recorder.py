"""What ``python -m export.mil.record`` does.

Tested with a stand-in for Core ML, not on a Mac yet.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from PIL import Image

from dfnet.artifact import sha256_of, staged_folder
from dfnet.console import EXIT_OK, Progress, results_console
from dfnet.errors import ArtifactError, UnsupportedError
from export.coreml_runner import ComputeUnit, load_model
from export.macos import chip, mac_model, macos_release, macos_version
from export.mil.golden import Array, Golden, Inputs
from export.mil.goldens import find_goldens
from export.mil.recordings import Mac, Recording, write_recordings
from export.sdk_log import temporary_sdk_log

_OLDEST = 15
"""The macOS release of iOS 18, whose compressed weights and functions some goldens have."""


def record(output: Path, names: Sequence[str]) -> int:
    """Writes this Mac's recordings of the goldens called ``names`` (all if none); exit code.

    Raises:
        UnsupportedError: an unknown golden, or a macOS that is too old.
        ArtifactError: a compute unit fails otherwise than by refusing a golden, or ``output``
            cannot be written. Nothing is left there.
    """
    goldens = find_goldens(names)
    if macos_version()[0] < _OLDEST:
        raise UnsupportedError(
            f"Core ML recordings: got macOS {macos_release()}, needed {_OLDEST} or newer. Record "
            "on a newer Mac."
        )
    mac = Mac(macos_release(), chip(), mac_model(), ct.__version__)
    target = output / folder_name(mac)
    with tempfile.TemporaryDirectory() as scratch, Progress(total=len(goldens)) as progress:
        recordings = []
        for golden in goldens:
            # The name comes first: Core ML can end the process, and then it is the last word.
            progress.say(f"Golden {golden.name}")
            with progress.step(golden.name) as step, temporary_sdk_log():
                recordings.append(record_golden(golden, Path(scratch)))
                step.outcome = _outcome(recordings[-1])
        with staged_folder(target) as folder:
            write_recordings(folder, mac, recordings)
    results_console().print(f"{len(recordings)} goldens recorded in {target}.", markup=False)
    return EXIT_OK


def folder_name(mac: Mac) -> str:
    """Such as ``apple-m2-macos-15.1``."""
    return re.sub(r"[^a-z0-9.]+", "-", f"{mac.chip or 'mac'} macos {mac.macos}".lower())


def record_golden(golden: Golden, scratch: Path) -> Recording:
    """Core ML's outputs of one golden, per compute unit; its package is built in ``scratch``."""
    package = scratch / f"{golden.name}.mlpackage"
    golden.write(package)
    inputs = golden.inputs()
    outputs: dict[str, dict[str, Array]] = {}
    refusals: dict[str, str] = {}
    for unit in ComputeUnit:
        try:
            outputs[unit.value] = _predict(golden, package, unit, inputs)
        except ArtifactError as error:
            refusals[unit.value] = str(error).replace(str(scratch), "")
    return Recording(golden.name, sha256_of(package), inputs, outputs, refusals)


def _predict(golden: Golden, package: Path, unit: ComputeUnit, inputs: Inputs) -> dict[str, Array]:
    model = load_model(package, unit, function=golden.function)
    try:
        # Copies: coremltools converts the values of the dictionary in place.
        results = model.predict({name: _feature(array) for name, array in inputs.items()})
    except RuntimeError as error:
        raise ArtifactError(f"Core ML golden {golden.name}: cannot be run ({error}).") from error
    return {name: _array(value) for name, value in results.items()}


def _feature(array: Array) -> Any:
    return Image.fromarray(array) if array.dtype == np.uint8 else array.copy()


def _array(value: Any) -> Array:
    # A copy, and pictures without the alpha channel that Core ML adds.
    return np.array(value.convert("RGB") if isinstance(value, Image.Image) else value)


def _outcome(recording: Recording) -> str:
    refused = ", ".join(recording.refusals)
    done = ", ".join(recording.outputs) or "nothing"
    return f"{done}; refused by {refused}" if refused else done
