"""From a torch module to the bytes of a .tflite file, by litert-torch."""

from __future__ import annotations

import litert_torch
import torch
from litert_converter.mlir.ir import MLIRError
from litert_torch.quantize.pt2e_quantizer import (
    PT2EQuantizer,
    get_symmetric_quantization_config,
)
from litert_torch.quantize.quant_config import QuantConfig
from torch import nn

from dfnet.errors import UnsupportedError
from dfnet.profiles import Resolution
from dfnet.signature import INPUTS, OUTPUT
from dfnet.tensors import example_inputs
from export.convolutions import ConvolutionCount, count_convolutions
from export.litert_graph import TRANSPOSED, float_convolutions, read_operators

_STATIC_INT8 = QuantConfig(
    pt2e_quantizer=PT2EQuantizer().set_global(
        get_symmetric_quantization_config(is_per_channel=True)
    )
)
"""Only switches the converter to turn quantize/dequantize pairs into int8 operators; the pairs
themselves come with the program, and this quantizer never annotates anything."""

SIGNATURE = "serving_default"
"""What litert-torch calls the only signature of a file."""

_NAMES = tuple(spec.name for spec in INPUTS)


def convert(module: nn.Module, resolution: Resolution) -> bytes:
    """``module`` as it is, in float32.

    Raises:
        UnsupportedError: litert-torch cannot convert an operator of it.
    """
    return _convert(module, resolution, None)


def convert_int8(module: nn.Module, resolution: Resolution) -> bytes:
    """A quantized graph with float weights (``Program.module(fold_weights=False)``) in int8.

    Raises:
        UnsupportedError: an operator cannot be converted, or a quantized convolution would
            compute in float.
    """
    model = _convert(module, resolution, _STATIC_INT8)
    exported = torch.export.export(module, example_inputs(resolution))
    _require_int8(model, count_convolutions(exported.graph))
    return model


def _require_int8(model: bytes, convolutions: ConvolutionCount) -> None:
    # litert-torch 0.10.0 has no int8 form of a transposed convolution: it stays float, which the
    # file's notes say, whatever its annotation.
    operators = read_operators(model)
    left = [op.result for op in float_convolutions(operators) if op.name != TRANSPOSED]
    allowed = convolutions.total - convolutions.quantized
    if len(left) > allowed:
        raise UnsupportedError(
            f"LiteRT export: got {len(left)} float convolutions in an int8 file, needed at most "
            f"{allowed} of {convolutions.total}. Quantize the result of, or keep float, "
            f"{', '.join(left[:3])}."
        )


def _convert(module: nn.Module, resolution: Resolution, config: QuantConfig | None) -> bytes:
    example = dict(zip(_NAMES, example_inputs(resolution), strict=True))
    try:
        converted = litert_torch.convert(_Named(module), sample_kwargs=example, quant_config=config)
        return bytes(converted.model_content())
    except (RuntimeError, ValueError, MLIRError) as error:
        raise UnsupportedError(
            f"LiteRT export at {resolution}: litert-torch cannot convert this network "
            f"({_first_line(error)}). Replace the operator it names."
        ) from error


class _Named(nn.Module):
    """Gives the file's signature our names: keyword inputs, and a dict for the output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        # Not eval(): the graphs torch.export makes refuse to change mode.
        self.training = False

    def forward(self, **feed: torch.Tensor) -> dict[str, torch.Tensor]:
        return {OUTPUT: self.network(*(feed[name] for name in _NAMES))}


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
