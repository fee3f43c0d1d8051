"""The int8 tensors of a prepared graph: each watches its values, then stands for its codes.

``prepare_pt2e`` puts one of these wherever a tensor is quantized and ``convert_pt2e`` turns it into
quantize and dequantize operators. In between the same graph simulates: every tensor can be set to
float or to its codes on its own, which is what choosing ranges, correcting weights and measuring
sensitivity need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import ObserverBase

from dfnet.errors import CalibrationError
from quantize.dataflow import CONVOLUTIONS

SMALLEST_SCALE = 2.0**-16
"""XNNPACK needs input scale * weight scale / output scale above 2**-32."""

LOWEST, HIGHEST = -128, 127
"""int8 codes of activations; weights leave -128 out, so that zero stays in the middle."""
SYMMETRIC = 127

SAMPLES_PER_FEED = 2048
"""Values kept of a tensor per calibration feed; minimum and maximum are always exact."""
_MOST_FEEDS = 512


class Mode(Enum):
    """What a quantized tensor does with the values that pass through it."""

    WATCH = "watch"
    FLOAT = "float"
    INT8 = "int8"


class ActivationQuantizer(ObserverBase):  # type: ignore[misc]
    """One activation tensor, affine int8: real = scale * (code - zero_point).

    With ``fixed`` the scale and zero point are given and values change nothing. ``stretch`` is the
    logarithm of a factor on the scale, which learning may move; it is zero otherwise.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, fixed: tuple[float, int] | None = None, **_: object) -> None:
        # torchao repeats the annotation's fields, which are constants here.
        super().__init__(dtype=torch.int8, is_dynamic=False)
        self.qscheme = torch.per_tensor_affine
        self.quant_min, self.quant_max = LOWEST, HIGHEST
        self.fixed = fixed
        scale, zero_point = fixed or (0.0, 0)
        self.register_buffer("scale", torch.tensor([scale]))
        self.register_buffer("zero_point", torch.tensor([zero_point], dtype=torch.int32))
        self.stretch = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.mode = Mode.WATCH
        self.low, self.high = float("inf"), float("-inf")
        self._samples: list[Tensor] = []

    @property
    def reached(self) -> bool:
        """Whether any value passed through while it was watching."""
        return self.low <= self.high

    @property
    def samples(self) -> Tensor:
        """A random share of the values watched, (n,) float32."""
        return torch.cat(self._samples) if self._samples else torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        if self.mode is Mode.INT8:
            return self._codes(x)
        if self.mode is Mode.WATCH:
            self._watch(x.detach())
        return x

    def settle(self, low: float, high: float) -> None:
        """Spreads the codes over [low, high], widened to hold zero, which stays exact."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / (HIGHEST - LOWEST), SMALLEST_SCALE)
        self.scale.fill_(scale)
        self.zero_point.fill_(max(LOWEST, min(HIGHEST, LOWEST - round(low / scale))))

    def forget(self) -> None:
        """Drops the watched values; scale and zero point stay."""
        self._samples = []

    def fold_stretch(self) -> None:
        """Makes the learned stretch part of the scale."""
        with torch.no_grad():
            self.scale.mul_(self.stretch.exp()).clamp_(min=SMALLEST_SCALE)
            self.stretch.zero_()

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Scale (1,) and zero point (1,); CalibrationError when nothing settled them."""
        if not self.scale > 0:
            raise CalibrationError(
                "Calibration: got a tensor that no feed reached, needed values at every one. "
                "Check that the network uses all of its layers."
            )
        return self.scale * self.stretch.detach().exp(), self.zero_point

    def _codes(self, x: Tensor) -> Tensor:
        scale = self.scale * self.stretch.exp()
        return torch._fake_quantize_learnable_per_tensor_affine(
            x, scale, self.zero_point.float(), LOWEST, HIGHEST, 1.0
        )

    def _watch(self, x: Tensor) -> None:
        self.low = min(self.low, float(x.min()))
        self.high = max(self.high, float(x.max()))
        if self.fixed is None and len(self._samples) < _MOST_FEEDS:
            flat = x.flatten()
            chosen = torch.Generator().manual_seed(len(self._samples))
            places = torch.randint(flat.numel(), (SAMPLES_PER_FEED,), generator=chosen)
            self._samples.append(flat[places])


class WeightQuantizer(ObserverBase):  # type: ignore[misc]
    """One weight, symmetric int8 per channel along ``ch_axis``: real = scale[c] * code.

    ``relaxation`` takes the place of rounding while the weight is being learned; see
    ``quantize.learning``.
    """

    scale: Tensor

    def __init__(self, ch_axis: int, **_: object) -> None:
        super().__init__(dtype=torch.int8, is_dynamic=False)
        self.qscheme = torch.per_channel_symmetric
        self.quant_min, self.quant_max = -SYMMETRIC, SYMMETRIC
        self.ch_axis = ch_axis
        self.register_buffer("scale", torch.empty(0))
        self.mode = Mode.WATCH
        self.relaxation: nn.Module | None = None

    def forward(self, weight: Tensor) -> Tensor:
        if self.mode is Mode.WATCH:
            self.settle(weight.detach())
        if self.mode is not Mode.INT8:
            return weight
        if self.relaxation is not None:
            relaxed: Tensor = self.relaxation(weight)
            return relaxed
        scale = self.broadcast(self.scale, weight)
        return (weight / scale).round().clamp(-SYMMETRIC, SYMMETRIC) * scale

    def settle(self, weight: Tensor) -> None:
        """One scale per channel, so that the largest weight has the largest code."""
        axes = [axis for axis in range(weight.dim()) if axis != self.ch_axis]
        self.scale = (weight.abs().amax(axes) / SYMMETRIC).clamp(min=SMALLEST_SCALE)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Scales (channels,) and zero points (channels,), all zero."""
        return self.scale, torch.zeros_like(self.scale, dtype=torch.int32)

    def broadcast(self, scale: Tensor, weight: Tensor) -> Tensor:
        """``scale`` with the axes of ``weight``."""
        shape = [1] * weight.dim()
        shape[self.ch_axis] = -1
        return scale.view(shape)


def activations(prepared: GraphModule) -> dict[ActivationQuantizer, Node]:
    """Every activation tensor with a scale of its own, and the first node that produces it.

    Tensors that share a scale share their quantizer.
    """
    found: dict[ActivationQuantizer, Node] = {}
    for quantizer, node in _quantizers(prepared):
        if isinstance(quantizer, ActivationQuantizer):
            found.setdefault(quantizer, node)
    return found


def weights(prepared: GraphModule) -> dict[WeightQuantizer, Node]:
    """Every quantized weight that is a tensor of its own, and the node that reads it."""
    return {
        quantizer: node
        for quantizer, node in _quantizers(prepared)
        if isinstance(quantizer, WeightQuantizer) and node.op == "get_attr"
    }


def quantizer_of(prepared: GraphModule, node: Node) -> ActivationQuantizer | None:
    """What quantizes the result of ``node``; None if it stays float."""
    for user in node.users:
        module = prepared.get_submodule(str(user.target)) if user.op == "call_module" else None
        if isinstance(module, ActivationQuantizer):
            return module
    return None


def rounded_weight(prepared: GraphModule, node: Node) -> Node | None:
    """The weight, before rounding, that a convolution reads rounded; None if it reads it float."""
    rounded = node.args[1] if node.target in CONVOLUTIONS else None
    if isinstance(rounded, Node) and rounded.op == "call_module":
        source = rounded.args[0]
        quantizer = prepared.get_submodule(str(rounded.target))
        held = isinstance(source, Node) and source.op == "get_attr"
        if held and isinstance(quantizer, WeightQuantizer):
            assert isinstance(source, Node)
            return source
    return None


def _quantizers(
    prepared: GraphModule,
) -> Iterator[tuple[ActivationQuantizer | WeightQuantizer, Node]]:
    for node in prepared.graph.nodes:
        if node.op == "call_module":
            module = prepared.get_submodule(str(node.target))
            if isinstance(module, ActivationQuantizer | WeightQuantizer):
                source = node.args[0]
                assert isinstance(source, Node)
                yield module, source


@contextmanager
def modes(prepared: GraphModule, mode: Mode, *, but: Iterable[nn.Module] = ()) -> Iterator[None]:
    """Within it every quantized tensor is in ``mode``; those in ``but`` are the other of float
    and int8."""
    other = Mode.INT8 if mode is Mode.FLOAT else Mode.FLOAT
    exceptions = set(but)
    before = {quantizer: quantizer.mode for quantizer, _ in _quantizers(prepared)}
    for quantizer in before:
        quantizer.mode = other if quantizer in exceptions else mode
    try:
        yield
    finally:
        for quantizer, kept in before.items():
            quantizer.mode = kept
