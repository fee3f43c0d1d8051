"""How far a network looks around each pixel of its output, read off its exported graph.

Along one axis every tensor is a row of positions, and each position depends on an interval of the
input's. The operators say how intervals grow (Araujo et al., "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019); following them position by position is exact for
every phase of a strided network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from dfnet.errors import UnsupportedError
from dfnet.operator_reach import WINDOWS, Positions, bound_arguments, operator_name, stays_in_place
from dfnet.profiles import Resolution
from dfnet.reach import Halo, ReceptiveField
from dfnet.signature import INPUTS
from dfnet.tensors import example_inputs

_SMALLEST, _LARGEST = 512, 4096
"""Frame sides on which the graph is followed; doubled until the middle does not see the border."""

_MOST_ALIGNED = 64
"""A network whose grid repeats only after more pixels than this resizes to sizes of its own."""

_TOLERANCE = 1e-5
"""What a change outside the field may do to an output in [0, 1]: rounding of sums, no more."""


@dataclass(frozen=True)
class _Span:
    """First and last input position that each position of a tensor's axis depends on.

    ``scale`` is how many input pixels lie between two positions.
    """

    first: Positions
    last: Positions
    scale: Fraction

    def taken(self, first: Positions, last: Positions, step: Fraction) -> _Span:
        """The span of positions that each read this one's ``first`` to ``last``, moved on by
        ``step`` from one to the next."""
        end = len(self.first) - 1
        return _Span(
            self.first[first.clip(0, end)], self.last[last.clip(0, end)], self.scale * step
        )

    def joined(self, other: _Span) -> _Span:
        first, last = np.minimum(self.first, other.first), np.maximum(self.last, other.last)
        return _Span(first, last, self.scale)


def receptive_field(network: nn.Module) -> ReceptiveField:
    """The receptive field of ``network``, which takes the inputs of ``dfnet.signature``.

    Raises:
        UnsupportedError: the network looks at the whole frame, or has an operator whose reach is
            not known; names it.
    """
    size = _SMALLEST
    while size <= _LARGEST:
        example = example_inputs(Resolution(size, size))
        graph = torch.export.export(network, example).graph
        spans = [_follow(graph, axis) for axis in (2, 3)]
        alignment = math.lcm(*(repeat for _, repeat in spans))
        edges = [_edges(span, alignment) for span, _ in spans]
        if all(edges):
            rows, columns = (edge for edge in edges if edge)
            return ReceptiveField(
                rows.back,
                columns.back,
                rows.ahead,
                columns.ahead,
                alignment=alignment,
                rows=rows.halo,
                columns=columns.halo,
            )
        size *= 2
    raise UnsupportedError(
        f"Receptive field of {type(network).__name__}: got one wider than {_LARGEST // 2} pixels, "
        "needed a network that looks at part of the frame."
    )


def check_receptive_field(network: nn.Module, field: ReceptiveField) -> None:
    """Checks on the network itself that tiles cut at the field's halos see all they need.

    What one side of a cut must not see is changed; the pixels of that side must stay.

    Raises:
        UnsupportedError: they change.
    """
    step = field.alignment
    at = [halo.before + step for halo in (field.rows, field.columns)]
    ends = [m + h.after + step for m, h in zip(at, (field.rows, field.columns), strict=True)]
    frame = Resolution(*ends)
    picture = _picture(network, example_inputs(frame))
    for axis, halo, middle in zip((2, 3), (field.rows, field.columns), at, strict=True):
        cut = middle + halo.cut
        hidden_and_kept = (
            (slice(0, middle - halo.before), slice(cut, None)),
            (slice(middle + halo.after, None), slice(0, cut)),
        )
        for hidden, kept in hidden_and_kept:
            changed = example_inputs(frame)
            for one, other in zip(changed, example_inputs(frame, seed=1), strict=True):
                _along(one, axis, hidden)[:] = _along(other, axis, hidden)
            difference = _picture(network, changed) - picture
            change = float(_along(difference, axis, kept).abs().max())
            if not change <= _TOLERANCE:
                raise UnsupportedError(
                    f"Receptive field of {type(network).__name__}: got a change of {change:.2g} "
                    f"from outside of {field}, needed none. Report this with the network."
                )


def _picture(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        picture: Tensor = network(*inputs)
    return picture


def _along(image: Tensor, axis: int, part: slice) -> Tensor:
    """A view of ``part`` of rows (axis 2) or columns (3)."""
    return image[:, :, part] if axis == 2 else image[:, :, :, part]


@dataclass(frozen=True)
class _Edges:
    """Pixels that single positions look back and ahead, and where to cut between them."""

    back: int
    ahead: int
    halo: Halo


def _edges(span: _Span, alignment: int) -> _Edges | None:
    """How far the middle looks; None when it sees the frame's border."""
    begin = len(span.first) // 2 // alignment * alignment
    block = np.arange(begin - alignment, begin + alignment)
    first, last = span.first[block], span.last[block]
    if first.min() == 0 or last.max() == len(span.first) - 1:
        return None
    halos = [
        Halo(
            cut=cut,
            before=_blocks(begin - int(first[alignment + cut :].min()), alignment),
            after=_blocks(int(last[: alignment + cut].max()) + 1 - begin, alignment),
        )
        for cut in range(alignment)
    ]
    return _Edges(
        back=max(0, int((block - first).max())),
        ahead=max(0, int((last - block).max())),
        halo=min(halos, key=lambda halo: halo.before + halo.after),
    )


def _blocks(pixels: int, alignment: int) -> int:
    return max(0, -(-pixels // alignment) * alignment)


def _follow(graph: Graph, axis: int) -> tuple[_Span, int]:
    """The output's span along ``axis``, and after how many pixels the network's grid repeats."""
    placeholders = graph.find_nodes(op="placeholder")
    pixels = np.arange(placeholders[-1].meta["val"].shape[axis])
    spans = dict.fromkeys(placeholders[-len(INPUTS) :], _Span(pixels, pixels, Fraction(1)))
    repeat = 1
    for node in graph.nodes:
        if node.op != "call_function" or not any(one in spans for one in node.all_input_nodes):
            continue
        spans[node] = _span_of(node, spans, axis)
        repeat = math.lcm(repeat, spans[node].scale.numerator)
        if repeat > _MOST_ALIGNED:
            raise _unknown(node, f"a grid that repeats after {repeat} pixels")
    (output,) = graph.output_node().all_input_nodes
    return spans[output], repeat


def _span_of(node: Node, spans: Mapping[Node, _Span], axis: int) -> _Span:
    sources = [spans[one] for one in node.all_input_nodes if one in spans]
    name = operator_name(node)
    if name in WINDOWS:
        found = sources[0].taken(*WINDOWS[name](bound_arguments(node), *_lengths(node, axis), axis))
    elif stays_in_place(node):
        found = sources[0]
        for other in sources[1:]:
            if len(other.first) != len(found.first) or other.scale != found.scale:
                raise _unknown(node, "inputs of two sizes")
            found = found.joined(other)
    else:
        raise _unknown(node, "an operator whose reach is not known")
    value = node.meta["val"]
    shapes = [one.shape for one in (value if isinstance(value, list | tuple) else [value])]
    if any(len(shape) != 4 or shape[axis] != len(found.first) for shape in shapes):
        raise _unknown(node, f"a result of shape {tuple(shapes[0])}")
    return found


def _lengths(node: Node, axis: int) -> tuple[int, int]:
    source = node.all_input_nodes[0]
    return source.meta["val"].shape[axis], node.meta["val"].shape[axis]


def _unknown(node: Node, got: str) -> UnsupportedError:
    return UnsupportedError(
        f"Receptive field: got {got} ({operator_name(node)}), needed convolutions, pooling, "
        "resizing by a fixed factor, pixel shuffles and elementwise operators."
    )


def describe_receptive_field(network: nn.Module) -> dict[str, Any]:
    """The fact that a manifest keeps: the checked field's JSON form, or ``{"unknown": reason}``."""
    try:
        field = receptive_field(network)
        check_receptive_field(network, field)
    except UnsupportedError as error:
        return {"unknown": str(error)}
    return asdict(field)
