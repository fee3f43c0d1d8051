"""Whether a file holds the scales of the graph it was lowered from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from dfnet.profiles import Precision
from dfnet.signature import INPUTS
from export.runtime import Lowered
from export.scales import ConvolutionScales, Quantization, TensorScale
from export.scales_graph import read_graph
from quantize.program import Program

_CLIPPED = 0.99
"""Share of a tensor's range that a change of scale must leave for it to be no news to the user."""
_INPUTS = frozenset(spec.name for spec in INPUTS)


@dataclass(frozen=True)
class ScaleReport:
    """``compared`` quantized convolutions of the graph, of which ``equal`` have the same weight
    codes, weight scales, and input and output scales and zero points in the file.

    ``differences`` are sentences about these and about every other int8 tensor, ``notes`` those of
    them that matter to the user.
    """

    compared: int
    equal: int
    differences: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Facts for a manifest, which has the notes already."""
        facts = asdict(self)
        del facts["notes"]
        return facts


def with_scales(lowered: Lowered, program: Program, read: Callable[[], Quantization]) -> Lowered:
    """``lowered`` with the facts and notes of its comparison with the int8 graph that all runtimes
    share; as it is where ``program`` is another one.

    ``read`` gives the scales of the file and is called only then.
    """
    recipe = program.recipe
    if recipe.precision is not Precision.W8A8 or recipe.by_sdk:
        return lowered
    report = compare_scales(read_graph(program.module()), read())
    return replace(
        lowered,
        notes=(*lowered.notes, *report.notes),
        facts={**lowered.facts, "scales": report.to_json()},
    )


def compare_scales(graph: Quantization, file: Quantization) -> ScaleReport:
    """Compares tensor by tensor: convolutions by their weight codes, other tensors by value."""
    pairs = list(zip(graph.convolutions, match_convolutions(graph, file), strict=True))
    found = [tuple(_convolution_differences(ours, theirs)) for ours, theirs in pairs]
    equal = sum(not differences for differences in found)
    requantized = tuple(_requantized(graph, file))
    return ScaleReport(
        compared=len(pairs),
        equal=equal,
        differences=(
            *(difference for differences in found for difference in differences),
            *_unknown(file.tensors, graph.tensors, "is in the file, not in the graph"),
            *_unknown(graph.tensors, file.tensors, "is in the graph, not in the file"),
            *(
                f"{after.name}: requantized from {before} to {after}."
                for before, after in requantized
            ),
            *file.remarks,
        ),
        notes=(
            *_changed(len(pairs) - equal, len(pairs)),
            *map(_clipped, filter(_clips, requantized)),
        ),
    )


def match_convolutions(
    graph: Quantization, file: Quantization
) -> tuple[ConvolutionScales | None, ...]:
    """For each convolution of ``graph``, in its order, the one of ``file`` with the same weight
    codes, or None. Where several have them, one with equal scales goes first."""
    left = list(file.convolutions)
    matched: dict[int, ConvolutionScales] = {}
    for accept in (_same, _same_codes):
        for place, ours in enumerate(graph.convolutions):
            theirs = next((one for one in left if accept(ours, one)), None)
            if place not in matched and theirs is not None:
                matched[place] = theirs
                left.remove(theirs)
    return tuple(matched.get(place) for place in range(len(graph.convolutions)))


def _same_codes(ours: ConvolutionScales, theirs: ConvolutionScales) -> bool:
    return ours.codes == theirs.codes


def _same(ours: ConvolutionScales, theirs: ConvolutionScales) -> bool:
    return _same_codes(ours, theirs) and not any(_convolution_differences(ours, theirs))


def _convolution_differences(
    ours: ConvolutionScales, theirs: ConvolutionScales | None
) -> Iterator[str]:
    if theirs is None:
        yield f"{ours.name}: no int8 convolution of the file has its weight codes."
        return
    for what, mine, other in (
        ("weight", ours.weight, theirs.weight),
        ("input", ours.input, theirs.input),
        ("output", ours.output, theirs.output),
    ):
        if not _equal(mine, other):
            yield f"{ours.name} {what}: got {other or 'float'}, needed {mine or 'float'}."


def _equal(mine: TensorScale | None, other: TensorScale | None) -> bool:
    if mine is None or other is None:
        return mine is other
    return mine.equals(other)


def _unknown(
    tensors: Iterable[TensorScale], known: Iterable[TensorScale], what: str
) -> Iterator[str]:
    """A sentence per scale and zero point among ``tensors`` that no tensor of ``known`` has."""
    known = tuple(known)
    told: list[TensorScale] = []
    for tensor in tensors:
        if not any(map(tensor.equals, (*known, *told))):
            told.append(tensor)
            yield f"{tensor.name}: {tensor} {what}."


def _requantized(
    graph: Quantization, file: Quantization
) -> Iterator[tuple[TensorScale, TensorScale]]:
    """Changes of scale in the file that the graph does not make."""
    for before, after in file.requantized:
        if not any(b.equals(before) and a.equals(after) for b, a in graph.requantized):
            yield before, after


def _changed(changed: int, compared: int) -> Iterator[str]:
    if changed:
        yield (
            f"{changed} of {compared} int8 convolutions have other scales or codes in this file "
            "than in the graph all runtimes share; the manifest's facts list them under scales."
        )


def _clips(change: tuple[TensorScale, TensorScale]) -> bool:
    """Whether the second range leaves out a good part of the values in the first."""
    (low, high), (lowest, highest) = _values(change), change[1].range
    return min(high, highest) - max(low, lowest) < _CLIPPED * (high - low)


def _values(change: tuple[TensorScale, TensorScale]) -> tuple[float, float]:
    """The values before a change of scale; a network's inputs are within [0, 1]."""
    before, after = change
    low, high = before.range
    return (max(low, 0.0), min(high, 1.0)) if after.name in _INPUTS else (low, high)


def _clipped(change: tuple[TensorScale, TensorScale]) -> str:
    (low, high), (lowest, highest) = _values(change), change[1].range
    return (
        f"{change[1].name}: this file clips values of {low:.3g} to {high:.3g} to {lowest:.3g} to "
        f"{highest:.3g} before it uses them, which the graph all runtimes share does not."
    )
