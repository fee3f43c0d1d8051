"""Reference outputs: what the torch network and each lowered graph give on the mosaics.

Rebuilding a quantized graph takes most of a minute, so outputs are kept in
``<output>/references/<key>.npz``. The key hashes everything that goes into them: checkpoint,
recipe, calibration, captures in their order, resolution, and this project's own source.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from benchmarks.mosaic import Mosaic
from dfnet.capture import Image
from dfnet.errors import ArtifactError
from dfnet.signature import OUTPUT
from dfnet.torch_runner import TorchRunner

_log = logging.getLogger(__name__)

SOURCES = ("dfnet/model.py", "dfnet/checkpoint.py", "benchmarks/mosaic.py", "quantize")
"""Files and folders whose change makes kept reference outputs stale."""


def reference_outputs(
    path: Path, mosaics: Sequence[Mosaic], network: Callable[[], nn.Module]
) -> tuple[Image, ...]:
    """``network``'s outputs on ``mosaics``, in order: read from ``path``, or computed and kept.

    Raises:
        ArtifactError: the outputs are not finite, or cannot be kept.
    """
    kept = _read(path, [mosaic.truth.shape for mosaic in mosaics])
    if kept is not None:
        return kept
    with TorchRunner(network()) as runner:
        outputs = tuple(_finite(runner.infer(m.feed)[OUTPUT], m.id) for m in mosaics)
    _write(path, outputs)
    return outputs


def _finite(output: Image, mosaic: str) -> Image:
    if not np.isfinite(output).all():
        raise ArtifactError(
            f"Reference output on mosaic {mosaic}: got values that are not finite, needed finite "
            "ones. Check the checkpoint."
        )
    return output


def _read(path: Path, shapes: Sequence[tuple[int, ...]]) -> tuple[Image, ...] | None:
    try:
        with np.load(path, allow_pickle=False) as kept:
            outputs = tuple(kept[f"arr_{i}"] for i in range(len(shapes)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("Reference outputs %s cannot be read (%s); computing them again.", path, error)
        return None
    return outputs if [o.shape for o in outputs] == list(shapes) else None


def _write(path: Path, outputs: Sequence[Image]) -> None:
    temporary = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            np.savez(stream, *outputs)
        os.replace(temporary, path)
    except OSError as error:
        raise ArtifactError(
            f"Reference outputs {path}: cannot be written ({error.strerror or error}). Choose a "
            "writable --output folder with free space."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
