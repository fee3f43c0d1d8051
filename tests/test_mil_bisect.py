from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dfnet.errors import ArtifactError, MetricError
from export.mil import Evaluator, Package
from export.mil.bisect import GraphExecution, PackageExecution, bisect, snr_db

from mil_packages import small_convolution, write_package

X = np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 2, 4, 4)


class Recorded:
    """An execution whose results are given."""

    def __init__(self, results: Mapping[str, torch.Tensor]) -> None:
        self._results = results

    def operations(self) -> dict[str, str]:
        return dict.fromkeys(self._results, "conv")

    def results(self, names: Sequence[str]) -> Mapping[str, torch.Tensor]:
        return {name: self._results[name] for name in names}


def noisy(tensor: torch.Tensor, ratio_db: float) -> torch.Tensor:
    noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
    gain = float(tensor.norm() / noise.norm()) * 10 ** (-ratio_db / 20)
    return tensor + noise * gain


SIGNAL = torch.randn(8, generator=torch.Generator().manual_seed(0))


def test_the_first_operation_below_the_bar_is_named() -> None:
    reference = Recorded({"a": SIGNAL, "b": SIGNAL, "c": SIGNAL, "d": SIGNAL})
    candidate = Recorded(
        {
            "a_cast_fp16": noisy(SIGNAL, 60),
            "b_cast_fp16": noisy(SIGNAL, 20),
            "only_here": SIGNAL,
            "c_cast_fp16": noisy(SIGNAL, 10),
        }
    )
    found = bisect(reference, candidate, bar_db=30)
    assert found.first is not None
    assert found.first.name == "b_cast_fp16"
    assert [round(m.snr_db, 3) for m in found.matches] == [60, 20, 10]


def test_equal_executions_have_no_first() -> None:
    found = bisect(Recorded({"a": SIGNAL}), Recorded({"a": SIGNAL}), bar_db=300)
    assert found.first is None
    assert found.matches[0].snr_db == math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_never_clear_a_bar(value: float) -> None:
    broken = torch.full_like(SIGNAL, value)
    found = bisect(Recorded({"a": SIGNAL}), Recorded({"a": broken}), bar_db=-1000)
    assert found.first is not None


def test_a_result_in_other_units_is_compared_in_the_references_units() -> None:
    found = bisect(Recorded({"a": SIGNAL}), Recorded({"a": noisy(SIGNAL, 40) * 128}), bar_db=30)
    assert found.first is None
    assert found.matches[0].gain == pytest.approx(128, rel=0.02)


def test_an_error_of_gain_is_not_forgiven() -> None:
    found = bisect(Recorded({"a": SIGNAL}), Recorded({"a": SIGNAL * 1.1}), bar_db=30)
    assert found.first is not None
    assert found.first.snr_db == pytest.approx(20, abs=0.01)


def test_a_dead_result_is_left_out() -> None:
    reference = Recorded({"a": SIGNAL, "dead": SIGNAL * 1e-6})
    candidate = Recorded({"a": SIGNAL, "dead": SIGNAL * 0})
    assert [m.name for m in bisect(reference, candidate, bar_db=30).matches] == ["a"]


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(MetricError, match="without a common name"):
        bisect(Recorded({"a": SIGNAL}), Recorded({"b": SIGNAL}), bar_db=30)


def test_other_shapes_are_an_error() -> None:
    with pytest.raises(ArtifactError, match="got shape"):
        bisect(Recorded({"a": SIGNAL}), Recorded({"a": SIGNAL[:4]}), bar_db=30)


def test_no_signal_is_minus_infinity() -> None:
    assert snr_db(torch.zeros(2), torch.ones(2)) == -math.inf


class Layer(nn.Module):
    """The program of ``small_convolution``."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        weight, bias = rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(3)
        self.c = nn.Conv2d(2, 3, 3, padding=1)
        self.c.weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32)))
        self.c.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.c(x))


def test_a_package_against_the_graph_it_came_from(tmp_path: Path) -> None:
    program = small_convolution()
    names = {"c": "conv2d", "y": "relu"}
    for operation in program.operations:
        operation.outputs[0].name = names.get(operation.outputs[0].name, operation.outputs[0].name)
        for argument in operation.inputs.values():
            argument.arguments[0].name = names.get(
                argument.arguments[0].name, argument.arguments[0].name
            )
    program.outputs = {"relu": program.outputs["y"]}
    evaluator = Evaluator(Package(write_package(tmp_path, program)))
    tensor = torch.from_numpy(X)
    graph = torch.export.export(Layer(), (tensor,))
    found = bisect(
        GraphExecution(graph, (tensor,)), PackageExecution(evaluator, {"x": X}), bar_db=100
    )
    assert found.first is None
    assert [m.operation for m in found.matches] == ["conv", "relu"]
