"""Training scenes: rendered in a second process, drawn as augmented crops."""

from __future__ import annotations

import multiprocessing
import queue
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dfnet.capture import Capture
from dfnet.errors import CaptureError
from dfnet.signature import INPUTS

FIRST_SEED = 1_000_000
"""Training seeds start here; the shipped captures use smaller ones."""


@dataclass(frozen=True)
class Scene:
    """A capture as uint8: ``inputs`` (9, H, W) without the target map, and per target its
    ``defocus`` map (T, H, W) and ``truth`` (T, 3, H, W)."""

    inputs: npt.NDArray[np.uint8]
    defocus: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Batch:
    """Crops as network inputs, in the order of ``dfnet.signature.INPUTS``, and their truth."""

    inputs: tuple[Tensor, ...]
    truth: Tensor


def pack(capture: Capture) -> Scene:
    """The uint8 form of a capture whose targets all have a truth."""
    truths = [t.truth for t in capture.targets if t.truth is not None]
    if len(truths) != len(capture.targets):
        raise CaptureError(f"Capture {capture.id}: training needs the truth of every target.")
    pictures = [
        capture.wide,
        capture.ultrawide,
        capture.defocus_wide,
        capture.defocus_ultrawide,
        capture.occlusion,
    ]
    return Scene(
        _bytes(np.concatenate(pictures, 1))[0],
        _bytes(np.concatenate([t.defocus for t in capture.targets]))[:, 0],
        _bytes(np.concatenate(truths)),
    )


def _bytes(image: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return (image * 255 + 0.5).astype(np.uint8)


class SceneFeeder:
    """Renders scenes 0, 1, 2... from texture tiles in a second process, in order.

    Use as a context manager; the process ends with it.
    """

    def __init__(
        self, textures: Path, *, scenes: int, size: int = 256, exclude: Sequence[str] = ()
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._queue: Queue[Scene] = context.Queue(maxsize=64)
        arguments = (self._queue, textures, scenes, size, tuple(exclude))
        self._process = context.Process(target=_render_scenes, args=arguments, daemon=True)
        self._scenes: list[Scene] = []

    def __enter__(self) -> Self:
        # Ctrl-C reaches every process of a terminal; this one's end is enough. The child inherits
        # the mask, so that not even its imports are interrupted with a traceback.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.join()

    def wait_for(self, count: int) -> Sequence[Scene]:
        """The first ``count`` scenes, waiting until they are rendered.

        Raises:
            CaptureError: the rendering process died.
        """
        while len(self._scenes) < count:
            try:
                self._scenes.append(self._queue.get(timeout=5))
            except queue.Empty:
                if not self._process.is_alive() and self._queue.empty():
                    raise CaptureError(
                        f"Scene renderer: stopped after {len(self._scenes)} scenes, needed {count}."
                    ) from None
        return self._scenes[:count]


def _render_scenes(
    output: Queue[Scene], textures: Path, scenes: int, size: int, exclude: tuple[str, ...]
) -> None:
    from dfnet.scenes import SceneRenderer, load_textures

    torch.set_num_threads(1)
    tiles = [t for t in load_textures(textures) if t.source not in exclude]
    renderer = SceneRenderer(tiles, size=size)
    for index in range(scenes):
        scene = renderer.render(FIRST_SEED + index, id=f"training-{index:05d}")
        output.put(pack(scene.capture))


def draw_batch(
    scenes: Sequence[Scene], rng: np.random.Generator, *, size: int, crop_px: int
) -> Batch:
    """``size`` augmented crops: half all-in-focus targets, half refocus."""
    crops = [_draw_crop(scenes[int(rng.integers(len(scenes)))], rng, crop_px) for _ in range(size)]
    stack = torch.from_numpy(np.stack(crops)).contiguous(memory_format=torch.channels_last)
    channels = [spec.channels for spec in INPUTS] + [3]
    *inputs, truth = torch.split(stack, channels, 1)
    return Batch(tuple(x.contiguous(memory_format=torch.channels_last) for x in inputs), truth)


def _draw_crop(scene: Scene, rng: np.random.Generator, crop_px: int) -> npt.NDArray[np.float32]:
    """(13, crop, crop) float32: the ten input channels, then the truth."""
    others = len(scene.defocus) - 1
    target = 0 if rng.random() < 0.5 else 1 + int(rng.integers(others))
    height, width = scene.inputs.shape[1:]
    y, x = int(rng.integers(height - crop_px + 1)), int(rng.integers(width - crop_px + 1))
    window = (slice(None), slice(y, y + crop_px), slice(x, x + crop_px))
    crop = np.concatenate(
        [
            scene.inputs[:8][window],
            scene.defocus[target : target + 1][window],
            scene.inputs[8:][window],
            scene.truth[target][window],
        ]
    )
    crop = crop[:, :, ::-1] if rng.random() < 0.5 else crop
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    crop = crop.transpose(0, 2, 1) if rng.random() < 0.5 else crop
    values = crop.astype(np.float32) / np.float32(255)
    order = rng.permutation(3) if rng.random() < 0.5 else np.arange(3)
    gain = np.float32(np.exp(rng.uniform(-0.25, 0)))
    for start in (0, 3, 10):
        values[start : start + 3] = values[start + order] * gain
    return values
