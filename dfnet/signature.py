"""The named inputs and the output of a dual-camera refocusing network.

quantize/ and export/ know a network only by this signature, so that any ``nn.Module`` with the
same named inputs and one output tensor goes through every export.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dfnet.errors import UnsupportedError

Feed = Mapping[str, npt.NDArray[np.float32]]
"""One inference's inputs by name: float32, [0, 1], NCHW with N = 1."""


@dataclass(frozen=True)
class InputSpec:
    """One named input: float32 in [0, 1], NCHW."""

    name: str
    channels: int


INPUTS: tuple[InputSpec, ...] = (
    InputSpec("wide", 3),
    InputSpec("ultrawide", 3),
    InputSpec("defocus_wide", 1),
    InputSpec("defocus_ultrawide", 1),
    InputSpec("defocus_target", 1),
    InputSpec("occlusion", 1),
)
"""Inputs in the order of ``forward``'s arguments (DC2, CVPR 2023, section 3)."""

OUTPUT = "refocused"
"""The output's name: 3 channels, nominally [0, 1]; may overshoot slightly before clipping."""

STRIDE = 8
"""Heights and widths are multiples of this (three halvings inside the network)."""


def check_feed(feed: Feed) -> None:
    """Checks names, dtypes, ranks and shapes.

    Raises:
        UnsupportedError: names the first input that does not fit the signature.
    """
    for _ in checked(feed):
        pass


def checked(feed: Feed) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """The inputs by name, each asked for once and checked when its turn comes.

    Raises:
        UnsupportedError: as ``check_feed`` does.
    """
    expected, got = {spec.name for spec in INPUTS}, set(feed)
    if expected != got:
        raise UnsupportedError(
            f"Network inputs: got {sorted(got)}, needed {sorted(expected)}. Give each input once."
        )
    size: tuple[int, ...] | None = None
    for spec in INPUTS:
        array = feed[spec.name]
        size = size or array.shape[2:]
        if array.dtype != np.float32 or array.shape != (1, spec.channels, *size):
            raise UnsupportedError(
                f"Network input {spec.name!r}: got {array.dtype} {array.shape}, needed float32 "
                f"{(1, spec.channels, *size)} in [0, 1]. Convert it to NCHW float32."
            )
        yield spec.name, array
        del array  # a feed that makes its arrays when asked never holds two of them
