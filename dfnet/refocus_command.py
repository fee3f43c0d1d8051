"""What ``python -m dfnet refocus`` does."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from dfnet.artifact import Artifact
from dfnet.capture import Capture, Image, Target
from dfnet.captureset import open_captures
from dfnet.console import EXIT_OK, Progress, results_console
from dfnet.errors import ArtifactError, CaptureError
from dfnet.exported import find_artifact, opened, resolution_of
from dfnet.framing import crop_to, pad_to
from dfnet.metrics import psnr_db
from dfnet.profiles import Resolution
from dfnet.runner import Runner
from dfnet.signature import OUTPUT
from dfnet.wish import Wish, truth_of

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class Options:
    """The command line as given; see ``python -m dfnet refocus --help``."""

    artifact: Path
    capture: Path
    wish: Wish
    output: Path
    threads: int
    as_json: bool


def refocus(options: Options) -> int:
    """Writes the picture and says what made it.

    Raises:
        DFNetError: an option is wrong, or the file cannot run.
    """
    if options.output.suffix.lower() not in _FORMATS:
        raise ArtifactError(
            f"Output {options.output}: needed a name that ends in {', '.join(_FORMATS)}. Rename it."
        )
    capture = find_capture(options.capture)
    target = options.wish.target_of(capture)
    artifact = find_artifact(options.artifact)
    with Progress() as progress:
        size, frame = Resolution(*capture.wide.shape[2:]), resolution_of(artifact)
        if size != frame:
            progress.say(f"Capture of {size} in the file's frame of {frame}, mirrored around it")
        step = progress.step(f"refocusing with {artifact.id}")
        with step, opened(artifact, threads=options.threads) as runner:
            picture = run(runner, artifact, capture, target)
            ran_on = runner.device.name
    _write(options.output, picture)
    truth = truth_of(capture, target)
    scores = None if truth is None else (psnr_db(truth, capture.wide), psnr_db(truth, picture))
    _tell(options, artifact, target, ran_on, scores)
    return EXIT_OK


def find_capture(path: Path) -> Capture:
    """The capture in the folder ``path`` of a capture set, or the only one of the set ``path``.

    Raises:
        CaptureError: there is no such capture, or it was altered.
    """
    if (path / "manifest.json").is_file():
        captures = open_captures(path)
        if len(captures) > 1:
            raise CaptureError(
                f"Capture {path}: got a set of {len(captures)}, needed one. Choose a folder in it: "
                f"{', '.join(captures.ids)}."
            )
        return captures.load(captures.ids[0])
    return open_captures(path.parent).load(path.name)


def run(runner: Runner, artifact: Artifact, capture: Capture, target: Target) -> Image:
    """The refocused picture, (1, 3, H, W) in [0, 1], of the capture's own size.

    Raises:
        UnsupportedError: the capture is larger than the file's frame.
        ArtifactError: the file computed what is not a number.
    """
    feed = pad_to(capture.feed(target), resolution_of(artifact))
    output = runner.infer(feed)[OUTPUT]
    if not np.isfinite(output).all():
        raise ArtifactError(
            f"Artifact {artifact.id}: computed values that are not finite. Export again."
        )
    return np.clip(crop_to(output, Resolution(*capture.wide.shape[2:])), 0, 1)


def pixels_of(picture: Image) -> Pillow.Image:
    """An 8-bit RGB picture of (1, 3, H, W) in [0, 1]."""
    return Pillow.fromarray(np.rint(picture[0].transpose(1, 2, 0) * 255).astype(np.uint8))


def _write(path: Path, picture: Image) -> None:
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels_of(picture).save(temporary, _FORMATS[path.suffix.lower()], quality=95)
        os.replace(temporary, path)
    except OSError as error:
        raise ArtifactError(
            f"Output {path}: cannot be written ({error.strerror or error}). "
            "Choose a writable --output with free space."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _tell(
    options: Options,
    artifact: Artifact,
    target: Target,
    ran_on: str,
    scores: tuple[float, float] | None,
) -> None:
    wide_db, result_db = scores or (None, None)
    facts = {
        "output": str(options.output),
        "artifact": artifact.id,
        "artifact_sha256": artifact.manifest.artifact_sha256,
        "runner": ran_on,
        "resolution": str(resolution_of(artifact)),
        "target": target.name,
        "wide_psnr_db": wide_db,
        "psnr_db": result_db,
    }
    console = results_console()
    if options.as_json:
        console.print_json(json.dumps(facts))
        return
    console.print(
        f"{options.output}: {target.name} by {artifact.id} "
        f"(sha256 {artifact.manifest.artifact_sha256[:12]}) at {facts['resolution']} on {ran_on}",
        markup=False,
    )
    if scores:
        console.print(f"PSNR to the truth: {result_db:.2f} dB, of the wide picture {wide_db:.2f}")
