"""Captures with measured depth, rendered from the Middlebury 2014 motorcycle stereo pair.

The pair (Scharstein et al., "High-resolution stereo datasets with subpixel-accurate ground truth",
GCPR 2014) is bundled in scikit-image's wheel; its pictures carry no licence text of their own, so
this repository ships hashes and derives the captures from the pinned wheel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PillowImage
from scipy.ndimage import distance_transform_edt
from skimage import data as skimage_data

from dfnet.capture import Capture
from dfnet.capturemanifest import Provenance
from dfnet.captureset import CaptureItem
from dfnet.errors import CaptureError
from dfnet.photograph import MARGIN_PX, Focus, Pair, photograph
from dfnet.rendering import Aperture, Layer, linear_from_srgb

FOCAL_LENGTH_PX = 994.978
BASELINE_MM = 193.001
DISPARITY_OFFSET_PX = 31.086
"""Calibration of the pair, from the docstring of skimage.data.stereo_motorcycle."""

DIOPTRE_STRETCH = 9.0
"""The scene spans 2.2 to 4.8 m; stretched, it spans a phone's close range and blurs like one."""

_SLICES = 10
_HIDDEN_REACH_PX = 24
"""How far a surface continues behind the one in front of it."""

VIEWS = {1: (0, 0, 0.30), 2: (130, 60, 0.40), 3: (260, 148, 0.50), 4: (389, 90, 0.60)}
"""By number: left, top, and pixel-grid fraction of each capture's frame."""

_SIZE = 256
PROVENANCE = Provenance(
    sources=("middlebury-2014-motorcycle",),
    seed=None,
    licence="no licence text; Scharstein et al., GCPR 2014, as distributed with scikit-image",
    derived=True,
)


def stereo_captures() -> list[CaptureItem]:
    """The four captures with their provenance."""
    return [CaptureItem(stereo_capture(number), PROVENANCE) for number in VIEWS]


def stereo_capture(number: int) -> Capture:
    """Capture ``motorcycle-<number>``, in float64 so that its 8-bit pictures match everywhere.

    Raises:
        CaptureError: the installed package does not hold the stereo pair.
    """
    picture, dioptres = _read_pair()
    left, top, fraction = VIEWS[number]
    frame = _SIZE + 2 * MARGIN_PX
    window = (slice(top, top + frame), slice(left, left + frame))
    return _capture(picture[window], dioptres[window], fraction, number)


def _read_pair() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """The left picture (500, 741, 3) and its stretched inverse depth in dioptres (500, 741)."""
    folder = Path(skimage_data.__file__).parent
    try:
        picture = np.asarray(PillowImage.open(folder / "motorcycle_left.png").convert("RGB"))
        with np.load(folder / "motorcycle_disp.npz") as stored:
            disparity = stored["arr_0"].astype(np.float64)
    except OSError as error:
        raise CaptureError(
            f"Stereo pair in {folder}: cannot be read ({error}). Install the pinned scikit-image."
        ) from error
    known = np.isfinite(disparity)
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    disparity = disparity[tuple(nearest)]
    metres = FOCAL_LENGTH_PX * BASELINE_MM / (disparity + DISPARITY_OFFSET_PX) / 1000
    return picture, DIOPTRE_STRETCH / metres


def _capture(
    pixels: npt.NDArray[np.uint8], dioptres: npt.NDArray[np.float64], fraction: float, number: int
) -> Capture:
    rng = np.random.default_rng(9_000 + number)
    linear = linear_from_srgb(torch.from_numpy(pixels.copy()).permute(2, 0, 1).double() / 255)
    layers = list(_sliced(linear, dioptres))
    inner = dioptres[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    near, far = (float(np.quantile(inner, q)) for q in (0.9, 0.1))
    source, others = (near, far) if number % 2 else (far, near)
    pair = Pair(fraction, 0.0 if number % 2 else math.pi, float(inner.mean()))
    return photograph(
        layers,
        pair,
        Focus(source),
        [Focus(others), Focus((near + far) / 2, 1.2)],
        id=f"motorcycle-{number}",
        rng=rng,
        aperture=Aperture(pixels.shape[0], blades=(0, 6)[number % 2], dtype=torch.float64),
    )


def _sliced(linear: torch.Tensor, dioptres: npt.NDArray[np.float64]) -> Iterator[Layer]:
    """Layers far to near; each continues a little behind the nearer ones, in its own colours."""
    edges = np.quantile(dioptres, np.linspace(0, 1, _SLICES + 1))
    index = np.clip(np.searchsorted(edges, dioptres, side="right") - 1, 0, _SLICES - 1)
    for slice_number in range(_SLICES):
        own = index == slice_number
        distance, nearest = distance_transform_edt(~own, return_indices=True)
        hidden = (index > slice_number) & (distance <= _HIDDEN_REACH_PX)
        opaque = slice_number == 0
        covered = np.ones_like(own) if opaque else own | hidden
        yield Layer(
            linear[:, nearest[0], nearest[1]],
            torch.from_numpy(covered.astype(np.float64))[None],
            torch.from_numpy(dioptres[tuple(nearest)]),
            opaque,
        )
