"""Feeds as Core ML takes them: arrays, or PIL pictures for packages that take images."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from dfnet.manifest import Manifest, TensorSpec
from dfnet.signature import Feed
from export.stored import from_stored, to_stored


def features_of(feed: Feed, manifest: Manifest) -> dict[str, Any]:
    """Every input by name: an array, or a PIL picture where the file takes images."""
    return {spec.name: _feature(feed[spec.name], spec) for spec in manifest.inputs}


def picture_of(feature: Any, manifest: Manifest) -> npt.NDArray[np.float32]:
    """The output, NCHW, from what Core ML gave: an array, or a PIL picture."""
    (spec,) = manifest.outputs
    if not isinstance(feature, Pillow.Image):
        return np.asarray(feature, np.float32)
    # Core ML adds an alpha channel.
    return from_stored(np.asarray(feature.convert("RGB"))[None], spec)


def _feature(real: npt.NDArray[np.float32], spec: TensorSpec) -> Any:
    if spec.dtype != "uint8":
        return real
    (levels,) = to_stored(real, spec)
    return Pillow.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)
