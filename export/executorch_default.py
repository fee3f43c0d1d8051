"""int8 the way ExecuTorch's XNNPACK page does it: ExecuTorch's comparison file."""

from __future__ import annotations

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from dfnet.tensors import feed_tensors
from export.sdk_program import SdkProgram
from quantize.trace import trace

NOTES = (
    "Quantized for comparison as ExecuTorch's documentation shows, XNNPACKQuantizer with the "
    "symmetric per-channel configuration: float32 inputs and output.",
)


def quantize_by_default(program: SdkProgram) -> nn.Module:
    """``program`` as a graph with quantize and dequantize operators, for any size.

    Raises:
        UnsupportedError: the network cannot be traced.
    """
    # The page's call says per channel ("Quantization" under "XNNPACK Backend"), as the SDK's own
    # export recipes do; get_symmetric_quantization_config() alone would be per tensor.
    config = get_symmetric_quantization_config(is_per_channel=True)
    prepared = prepare_pt2e(trace(program.module()).module(), XNNPACKQuantizer().set_global(config))
    with torch.no_grad():
        for feed in program.feeds():
            prepared(*feed_tensors(feed))
    quantized: nn.Module = convert_pt2e(prepared)
    return quantized
