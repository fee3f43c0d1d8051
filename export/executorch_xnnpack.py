"""XNNPACK inside ExecuTorch: the CPU of a phone, and of this machine."""

from __future__ import annotations

from typing import ClassVar

from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
from executorch.backends.xnnpack.partition.config.generic_node_configs import (
    UpsampleBilinear2dConfig,
)
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir.backend.partitioner import Partitioner

from dfnet.profiles import Precision
from export.executorch_backend import Backend
from export.executorch_resize import ResizeOnCodes


class XNNPACK(Backend):
    """Float32, or int8 as the program's quantize/dequantize pairs say."""

    key: ClassVar[str] = "xnnpack"
    precisions: ClassVar[tuple[Precision, ...]] = (Precision.FP32, Precision.W8A8)

    def partitioner(self, precision: Precision, *, by_sdk: bool) -> Partitioner:
        if by_sdk:
            return XnnpackPartitioner()
        ours = {UpsampleBilinear2dConfig: ResizeOnCodes}
        return XnnpackPartitioner([ours.get(config, config) for config in ALL_PARTITIONER_CONFIGS])
