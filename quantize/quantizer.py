"""Where a network's graph is quantized: one annotation policy for every runtime.

Weights are int8, symmetric, one scale per output channel. Activations are int8, affine, one
static scale per tensor. What stays float is read from the dataflow, never from names or channel
counts, so that a network we did not write is treated the same way.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY, QuantizationSpecBase

from dfnet.errors import UnsupportedError
from quantize.dataflow import (
    CONVOLUTIONS,
    SAME_SCALE,
    SIGMOIDS,
    Dataflow,
    float_heads,
    in_modules,
    read_dataflow,
    require_modules,
    shares_scale,
    tensor_inputs,
)
from quantize.observers import (
    HIGHEST,
    LOWEST,
    SYMMETRIC,
    ActivationQuantizer,
    WeightQuantizer,
)
from quantize.recipe import Recipe

_aten = torch.ops.aten

RELUS = frozenset({_aten.relu.default, _aten.relu_.default})
_UNARY = RELUS | {
    _aten.leaky_relu.default,
    _aten.leaky_relu_.default,
    _aten.prelu.default,
}
_PRODUCTS = frozenset({_aten.mul.Tensor, _aten.mul_.Tensor})
_SUMS = frozenset({_aten.add.Tensor, _aten.add_.Tensor})
_BINARY = _PRODUCTS | _SUMS | {_aten.sub.Tensor, _aten.sub_.Tensor}


def _activation(fixed: tuple[float, int] | None = None) -> QuantizationSpec:
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=LOWEST,
        quant_max=HIGHEST,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=ActivationQuantizer.with_args(fixed=fixed),
    )


def _weight(axis: int) -> QuantizationSpec:
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-SYMMETRIC,
        quant_max=SYMMETRIC,
        qscheme=torch.per_channel_symmetric,
        ch_axis=axis,
        observer_or_fake_quant_ctr=WeightQuantizer.with_args(ch_axis=axis),
    )


# Made once: torchao lets two tensors share a quantizer when their specifications are equal.
_MEASURED = _activation()
UNIT_RANGE = _activation((1 / 255, LOWEST))
"""[0, 1] in steps of 1/255: exact for 8-bit pictures and maps."""
_SIGMOID_RANGE = _activation((1 / 256, LOWEST))
"""The only output scale LiteRT's int8 LOGISTIC accepts."""
_PRODUCT_RANGE = _activation((4097 / 4096 / 255, LOWEST))
"""[0, 1] again, for a picture times a mask: a product of their codes is then divided by an odd
number, 4097 / 16, so that none lies halfway between two codes. In steps of 1/255 one in 256 would,
and XNNPACK's kernels for x86 and for Arm round halves differently. A picture that a mask of 1 lets
through keeps its codes."""


class GraphQuantizer(Quantizer):  # type: ignore[misc]
    """Annotates one graph for int8 after ``recipe``; give it to torchao's ``prepare_pt2e``.

    ``prepare_pt2e`` then raises UnsupportedError when a kept-float name matches no module or
    when no convolution would be quantized.
    """

    def __init__(self, recipe: Recipe) -> None:
        if recipe.observer is None:
            raise UnsupportedError(
                f"Recipe {recipe.name}: got no observer, needed one to quantize activations. "
                "Choose a recipe with static activations."
            )
        self._recipe = recipe
        self._flow: Dataflow
        self._heads: frozenset[Node] = frozenset()

    def annotate(self, model: GraphModule) -> GraphModule:
        require_modules(model.graph, self._recipe.keep_float)
        self._flow = read_dataflow(model.graph)
        self._heads = float_heads(model.graph, self._flow, self._recipe.float_heads)
        for node in model.graph.nodes:
            annotated = Q_ANNOTATION_KEY in node.meta
            if node.op == "call_function" and not annotated and not self._stays_float(node):
                self._annotate_node(node)
        return model

    def validate(self, model: GraphModule) -> None:
        convolutions = [node for node in model.graph.nodes if node.target in CONVOLUTIONS]
        if not any(Q_ANNOTATION_KEY in node.meta for node in convolutions):
            raise UnsupportedError(
                f"Recipe {self._recipe.name}: got 0 quantized convolutions of "
                f"{len(convolutions)}, needed at least one. Keep fewer modules float, or choose "
                "a float recipe."
            )

    def _stays_float(self, node: Node) -> bool:
        if node in self._heads or in_modules(node, self._recipe.keep_float):
            return True
        image_path = node not in self._flow.before_convolution and node.target not in CONVOLUTIONS
        return self._recipe.float_image_path and image_path

    def _annotate_node(self, node: Node) -> None:
        if node.target in CONVOLUTIONS:
            self._convolution(node)
        elif node.target in _BINARY:
            self._binary(node)
        elif node.target in SAME_SCALE:
            self._same_scale(node)
        elif node.target in _UNARY:
            self._with_relu(node, self._inputs(tensor_inputs(node)[0]))
        elif node.target in SIGMOIDS and not shares_scale(node, self._flow.inputs_only):
            _write(node, self._inputs(*tensor_inputs(node)), _SIGMOID_RANGE)

    def _convolution(self, node: Node) -> None:
        axis = 0
        if node.target is _aten.conv_transpose2d.input:
            # Its weight is (in, out / groups, kh, kw): per-channel scales need one group.
            axis = 1
            if len(node.args) > 6 and node.args[6] != 1:
                return
        source, weight = tensor_inputs(node)[:2]
        self._with_relu(node, self._inputs(source) | {weight: _weight(axis)})

    def _binary(self, node: Node) -> None:
        # Runtimes have no int8 kernel for a constant operand, nor for add's `alpha`.
        activations = [n for n in node.args if isinstance(n, Node) and n.op != "get_attr"]
        if len(activations) == 2 and not node.kwargs and activations == tensor_inputs(node):
            self._with_relu(node, self._inputs(*activations))

    def _same_scale(self, node: Node) -> None:
        sources = tensor_inputs(node)
        if node in self._flow.inputs_only:
            if node not in self._flow.joins_features:
                _write(node, dict.fromkeys(sources, UNIT_RANGE), UNIT_RANGE)
            return
        first = sources[0]
        shared = SharedQuantizationSpec((first, node))
        others: dict[Node, QuantizationSpecBase] = dict.fromkeys(sources[1:], shared)
        _write(node, {first: _MEASURED, **others}, shared)

    def _with_relu(self, node: Node, inputs: dict[Node, QuantizationSpecBase]) -> None:
        """Quantizes the result of ``node``, or of the ReLU that alone consumes it."""
        users = list(node.users)
        fuses = len(users) == 1 and users[0].target in RELUS
        if fuses and not in_modules(users[0], self._recipe.keep_float):
            _write(node, inputs, None)
            _write(users[0], {}, self._range(users[0]))
        else:
            _write(node, inputs, self._range(node))

    def _inputs(self, *nodes: Node) -> dict[Node, QuantizationSpecBase]:
        flow = self._flow
        return {n: UNIT_RANGE if n in flow.inputs_only else self._range(n) for n in nodes}

    def _range(self, node: Node) -> QuantizationSpecBase:
        """Pictures keep their nominal range: codes spent on rare overshoot cost more than it."""
        # LiteRT's converter refuses a concatenation of tensors with ranges of their own.
        picture = self._recipe.unit_pictures and node in self._flow.pictures
        if not picture or shares_scale(node, self._flow.inputs_only):
            return _MEASURED
        return _PRODUCT_RANGE if _of_products(node) else UNIT_RANGE


def _of_products(node: Node) -> bool:
    """A product or a sum of them, which is exact when it has their steps."""
    if node.target in _SUMS:
        return all(source.target in _PRODUCTS for source in tensor_inputs(node))
    return node.target in _PRODUCTS


def _write(
    node: Node, inputs: Mapping[Node, QuantizationSpecBase], output: QuantizationSpecBase | None
) -> None:
    node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(
        input_qspec_map=dict(inputs), output_qspec=output, _annotated=True
    )
