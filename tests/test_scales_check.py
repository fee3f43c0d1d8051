"""Comparing the scales of a graph and a file: what counts as equal, and what is told."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from export.scales import ConvolutionScales, Quantization, TensorScale, weight_bytes_nhwc
from export.scales_check import compare_scales, match_convolutions
from export.scales_graph import read_graph
from quantize.observers import WeightQuantizer, activations, weights
from quantize.ptq import StaticProgram

from small_networks import PLAIN, calibrated, restorer, traced


def tensor(scale: float, zero_point: int = -128, name: str = "t") -> TensorScale:
    return TensorScale(name, (scale,), zero_point)


def convolution(name: str = "conv", codes: bytes = b"\1\2") -> ConvolutionScales:
    weight = TensorScale(f"{name}.weight", (0.01, 0.02), 0)
    return ConvolutionScales(name, codes, weight, tensor(0.5), tensor(0.25, 3))


def quantization(*convolutions: ConvolutionScales) -> Quantization:
    tensors = [one.input for one in convolutions]
    tensors += [one.output for one in convolutions if one.output]
    return Quantization(convolutions, tuple(tensors))


GRAPH = quantization(convolution())


def test_a_copy_is_equal() -> None:
    report = compare_scales(GRAPH, GRAPH)
    assert (report.compared, report.equal) == (1, 1)
    assert report.differences == report.notes == ()


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        (replace(convolution(), input=tensor(0.501)), "conv input: got scale 0.501"),
        (replace(convolution(), input=tensor(0.5, -127)), "conv input: .* needed .* point -128"),
        (replace(convolution(), output=tensor(0.2525, 3)), "conv output: got scale 0.2525"),
        (replace(convolution(), output=None), "conv output: got float, needed scale 0.25"),
        (
            replace(convolution(), weight=TensorScale("w", (0.01, 0.0202), 0)),
            "conv weight: got scale 0.01 to 0.0202",
        ),
        (convolution(codes=b"\1\3"), "conv: no int8 convolution of the file has its weight codes"),
    ],
)
def test_every_change_of_a_convolution_names_its_tensor(
    changed: ConvolutionScales, names: str
) -> None:
    report = compare_scales(GRAPH, quantization(changed))
    assert report.equal == 0
    assert re.match(names, report.differences[0])
    assert "1 of 1 int8 convolutions" in report.notes[0]


def test_tensors_of_one_side_alone_are_told_once() -> None:
    extra = (tensor(0.7, name="sum"), tensor(0.7, name="its copy"))
    larger = replace(GRAPH, tensors=(*GRAPH.tensors, *extra))
    (added,) = compare_scales(GRAPH, larger).differences
    assert added == "sum: scale 0.7, zero point -128 is in the file, not in the graph."
    (lost,) = compare_scales(larger, GRAPH).differences
    assert lost == "sum: scale 0.7, zero point -128 is in the graph, not in the file."
    assert compare_scales(GRAPH, larger).notes == ()


@pytest.mark.parametrize(
    ("name", "before", "after", "clips"),
    [
        ("features", 0.5, 0.25, True),
        ("features", 0.25, 0.5, False),
        ("features", 0.5, 0.499, False),
        # Of an input, 0.02 * 255 or not, there is nothing above one.
        ("occlusion", 0.02, 0.01, False),
        ("occlusion", 0.02, 0.002, True),
    ],
)
def test_a_requantization_is_told_and_noted_where_it_clips(
    name: str, before: float, after: float, clips: bool
) -> None:
    change = (tensor(before, name="x"), tensor(after, name=name))
    known = replace(GRAPH, tensors=(*GRAPH.tensors, *change))
    report = compare_scales(known, replace(known, requantized=(change,)))
    assert report.equal == 1
    (difference,) = report.differences
    assert difference.startswith(f"{name}: requantized from scale {before:g}")
    assert [f"{name}: this file clips" in note for note in report.notes] == [True] * clips
    with_it = replace(known, requantized=(change,))
    assert compare_scales(with_it, with_it).differences == ()


def test_half_precision_explains_half_a_step_only() -> None:
    exact = tensor(0.0017831732)
    half = float(np.float16(exact.scale[0]))
    assert not tensor(half).equals(exact)
    assert TensorScale("t", (half,), -128, "float16").equals(exact)
    assert not TensorScale("t", (half * 1.0015,), -128, "float16").equals(exact)
    assert TensorScale("t", (half * 1.0015,), -128, "float16", roundings=4).equals(exact)
    # Below 2**-14 half precision has fewer digits.
    small = tensor(2.0**-16 * 1.0007)
    assert TensorScale("t", (2.0**-16,), -128, "float16").equals(small)
    assert not TensorScale("t", (2.0**-16 * 1.01,), -128, "float16").equals(small)


def test_of_equal_codes_those_with_equal_scales_are_paired() -> None:
    first = convolution("first")
    second = replace(convolution("second"), input=tensor(0.75))
    left, right = match_convolutions(quantization(first, second), quantization(second, first))
    assert left is not None
    assert right is not None
    assert (left.name, right.name) == ("first", "second")
    assert match_convolutions(quantization(first, second), quantization(second)) == (None, second)


def test_channels_last_codes_are_the_same_bytes() -> None:
    codes = np.arange(24, dtype=np.int8).reshape(2, 3, 2, 2)
    assert weight_bytes_nhwc(codes.transpose(0, 2, 3, 1), 0) == codes.tobytes()
    depthwise = codes.reshape(6, 1, 2, 2)
    assert weight_bytes_nhwc(depthwise.transpose(1, 2, 3, 0), 3) == depthwise.tobytes()


def test_the_graph_s_scales_are_its_quantizers() -> None:
    prepared = calibrated(traced(restorer()))
    graph = read_graph(StaticProgram(PLAIN, prepared, None).module())
    assert [one.name for one in graph.convolutions] == ["lift", "head", "mask"]
    scales = {float(quantizer.scale) for quantizer in activations(prepared)}
    assert {one.scale[0] for one in graph.tensors} == scales
    weight: WeightQuantizer = next(iter(weights(prepared)))
    assert graph.convolutions[0].weight.scale == tuple(weight.scale.tolist())
    # Behind the ReLU, and what both heads read.
    lift, head, mask = graph.convolutions
    assert lift.output == head.input == mask.input


def test_a_float_network_has_none() -> None:
    assert read_graph(nn.Conv2d(3, 3, 1)) == Quantization((), ())
