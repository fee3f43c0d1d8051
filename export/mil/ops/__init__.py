"""Operations of ML programs, by family. Importing this package fills the registry."""

from __future__ import annotations

import importlib

_FAMILIES = (
    "activation",
    "constexpr",
    "convolution",
    "elementwise",
    "gather",
    "linear",
    "normalization",
    "pooling",
    "quantization",
    "rearrange",
    "reduction",
    "resample",
    "resize",
    "scatter",
    "shape",
    "slicing",
    "sorting",
)

for _family in _FAMILIES:
    importlib.import_module(f"{__name__}.{_family}")
