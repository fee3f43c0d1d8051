"""Bilinear resizing on codes, for XNNPACK inside ExecuTorch.

XNNPACK has an int8 kernel for it (xnn_define_static_resize_bilinear_2d takes QINT8 tensors of one
scale), but ExecuTorch's partitioner hands it floats: two conversions more, and results that lie
halfway between two codes, as every fourth pixel between two others does, then depend on the
processor's float arithmetic.
"""

from __future__ import annotations

from executorch.backends.xnnpack.operators.node_visitor import NodeVisitor, register_node_visitor
from executorch.backends.xnnpack.partition.config.generic_node_configs import (
    UpsampleBilinear2dConfig,
)
from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType
from executorch.backends.xnnpack.serialization.xnnpack_graph_schema import (
    XNNGraph,
    XNNStaticResizeBilinear2D,
    XNode,
)
from executorch.backends.xnnpack.utils.quant_utils import is_dequant, is_quant
from executorch.backends.xnnpack.utils.xnnpack_constants import XNN_FLAG_ALIGN_CORNERS
from torch.export import ExportedProgram
from torch.fx import Node


class ResizeOnCodes(UpsampleBilinear2dConfig):  # type: ignore[misc]
    """Takes a resize with the quantize and dequantize around it, where both have one scale."""

    def supported_precision_types(self) -> list[ConfigPrecisionType]:
        return [ConfigPrecisionType.FP32, ConfigPrecisionType.STATIC_QUANT]

    def get_node_and_deps(self, node: Node, ep: ExportedProgram) -> list[Node]:
        if not _keeps_codes(node):
            return [node]
        taken: list[Node] = super().get_node_and_deps(node, ep)
        return taken


def _keeps_codes(node: Node) -> bool:
    before, users = node.all_input_nodes[0], list(node.users)
    if not is_dequant(before) or len(users) != 1 or not is_quant(users[0]):
        return False
    # Scale, zero point, lowest and highest code, type.
    return before.args[1:] == users[0].args[1:]


class ResizeVisitor(NodeVisitor):  # type: ignore[misc]
    """Writes a resize into XNNPACK's graph, its tensors as codes where they are."""

    target = "aten.upsample_bilinear2d.vec"

    def define_node(
        self, node: Node, xnn_graph: XNNGraph, vals_to_ids: dict[Node, int], debug_handle: int
    ) -> None:
        self.define_nodes_tensor_inputs_outputs(node, xnn_graph, vals_to_ids, convert_to_nhwc=True)
        (source,), align_corners = node.all_input_nodes, node.args[2]
        height, width = node.meta["val"].shape[-2:]
        resize = XNNStaticResizeBilinear2D(
            new_height=height,
            new_width=width,
            input_id=vals_to_ids[source],
            output_id=vals_to_ids[node],
            flags=XNN_FLAG_ALIGN_CORNERS if align_corners else 0,
        )
        xnn_graph.xnodes.append(XNode(xnode_union=resize, debug_handle=debug_handle))


register_node_visitor(ResizeVisitor)
