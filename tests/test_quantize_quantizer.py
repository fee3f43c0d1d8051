"""What the annotation policy quantizes, read from converted graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

from dfnet.errors import UnsupportedError
from dfnet.model import DFNet, DFNetConfig
from dfnet.profiles import Resolution
from dfnet.tensors import example_inputs
from quantize.dataflow import CONVOLUTIONS, in_modules
from quantize.prepare import prepare
from quantize.ranges import settle_ranges
from quantize.recipe import Recipe, find_recipe

from small_networks import SmallNetwork

_quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default
_dequantize = torch.ops.quantized_decomposed.dequantize_per_tensor.default
_dequantize_channels = torch.ops.quantized_decomposed.dequantize_per_channel.default
_aten = torch.ops.aten

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")


class Attention(SmallNetwork):
    """The sigmoid and the product here feed a convolution; the same operators at the end do not.

    Sums of wide picture and 3-channel features come in both places too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Conv2d(3, 3, 3, padding=1)
        self.gate = nn.Conv2d(3, 3, 1)
        self.body = nn.Conv2d(3, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 3, 3, padding=1)
        self.mask = nn.Conv2d(6, 3, 3, padding=1)

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        x = wide + torch.relu(self.lift(ultrawide))
        x = x * torch.sigmoid(self.gate(x))
        x = torch.relu(self.body(x))
        refined: Tensor = wide + self.head(x)
        return wide + torch.sigmoid(self.mask(x)) * (refined - wide)


def converted(network: nn.Module, recipe: Recipe) -> GraphModule:
    """The quantized graph, calibrated on noise."""
    prepared = prepare(network.eval(), recipe)
    with torch.no_grad():
        for seed in range(2):
            prepared(*example_inputs(Resolution(32, 40), seed=seed))
    settle_ranges(prepared, "min-max")
    graph: GraphModule = convert_pt2e(prepared)
    return graph


def nodes(graph: GraphModule, *targets: object) -> Iterator[Node]:
    return (node for node in graph.graph.nodes if node.target in targets)


def is_quantized(node: Node) -> bool:
    """Every activation comes in dequantized and the result, or its ReLU, is quantized."""
    weights = (_dequantize_channels, "get_attr")
    inputs = [n for n in node.all_input_nodes if n.op != "get_attr" and n.target not in weights]
    users = list(node.users)
    if len(users) == 1 and users[0].target is _aten.relu.default:
        users = list(users[0].users)
    return all(n.target is _dequantize for n in inputs) and all(
        n.target is _quantize for n in users
    )


def states(graph: GraphModule, *targets: object) -> list[bool]:
    return [is_quantized(node) for node in nodes(graph, *targets)]


@pytest.fixture(scope="module")
def dfnet_graph() -> GraphModule:
    """A small DFNet after recipe int8 with its heads in int8 too; tracing one takes seconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DFNet(DFNetConfig(width=4, blocks=(1, 1, 1)))
    return converted(network, find_recipe("int8"))


@pytest.fixture
def attention() -> Attention:
    torch.manual_seed(0)
    return Attention()


def test_the_image_path_stays_float_and_the_same_operators_before_a_convolution_do_not(
    attention: Attention,
) -> None:
    graph = converted(attention, find_recipe("int8"))

    assert states(graph, *CONVOLUTIONS) == [True] * 5
    assert states(graph, _aten.sigmoid.default) == [True, False]
    assert states(graph, _aten.mul.Tensor) == [True, False]
    assert states(graph, _aten.add.Tensor) == [True, False, False]
    assert states(graph, _aten.sub.Tensor) == [False]


def test_int8_full_quantizes_the_image_path_too(attention: Attention) -> None:
    """The blend at the end is two products by then, with a mask and its complement."""
    graph = converted(attention, find_recipe("int8-full"))

    assert states(graph, *CONVOLUTIONS) == [True] * 6
    assert states(graph, _aten.sigmoid.default) == [True] * 3
    assert states(graph, _aten.mul.Tensor) == [True] * 3
    assert states(graph, _aten.add.Tensor) == [True] * 3
    assert states(graph, _aten.sub.Tensor) == []


def test_an_image_path_that_is_not_rewritten_is_quantized_as_it_is(attention: Attention) -> None:
    graph = converted(attention, find_recipe("int8-full-naive"))

    everything = (_aten.sigmoid.default, _aten.mul.Tensor, _aten.add.Tensor, _aten.sub.Tensor)
    assert states(graph, *CONVOLUTIONS, *everything) == [True] * 13


def test_pictures_keep_their_nominal_range(attention: Attention) -> None:
    graph = converted(attention, find_recipe("int8-full"))

    refined, output = list(nodes(graph, _aten.add.Tensor))[1:]
    assert _steps(refined) == [pytest.approx(1 / 255), -128]
    assert _steps(output) == [pytest.approx(1 / 255, rel=3e-4), -128]


def test_no_product_of_codes_lies_halfway_between_two(attention: Attention) -> None:
    graph = converted(attention, find_recipe("int8-full"))
    codes = torch.arange(256).outer(torch.arange(256))

    # The first multiplies features, whose ranges are measured.
    for product in list(nodes(graph, _aten.mul.Tensor))[1:]:
        one, other = (float(str(source.args[1])) for source in product.all_input_nodes)
        multiplier = one * other / _steps(product)[0]
        halves = (codes * multiplier).frac() - 0.5
        assert halves.abs().min() > 1e-4


def test_a_sum_of_products_has_their_steps(attention: Attention) -> None:
    graph = converted(attention, find_recipe("int8-full"))

    _, one, other = nodes(graph, _aten.mul.Tensor)
    assert _steps(one) == _steps(other) == _steps(list(nodes(graph, _aten.add.Tensor))[-1])


def _steps(node: Node) -> list[float]:
    """Scale and zero point of a result."""
    (quantizer,) = node.users
    return [float(str(value)) for value in quantizer.args[1:3]]


def test_every_convolution_of_dfnet_is_quantized(dfnet_graph: GraphModule) -> None:
    convolutions = states(dfnet_graph, *CONVOLUTIONS)

    assert len(convolutions) == 37
    assert all(convolutions)


def test_inputs_are_quantized_exactly_as_8_bit_pictures(dfnet_graph: GraphModule) -> None:
    ranges = [
        user.args[1:3]
        for node in dfnet_graph.graph.nodes
        if node.op == "placeholder" and node.name != "occlusion"
        for user in node.users
        if user.target is _quantize
    ]

    # The target map feeds both branches from one quantization.
    assert ranges == [(pytest.approx(1 / 255), -128)] * 5


def test_concatenated_tensors_share_one_scale(dfnet_graph: GraphModule) -> None:
    concatenations = list(nodes(dfnet_graph, _aten.cat.default))

    assert len(concatenations) == 5
    for cat in concatenations:
        assert len({n.args[1:3] for n in (*cat.all_input_nodes, *cat.users)}) == 1


def test_weights_are_symmetric_per_output_channel(attention: Attention) -> None:
    graph = converted(attention, find_recipe("int8"))

    weights = list(nodes(graph, _dequantize_channels))
    assert len(weights) == 5
    for node in weights:
        assert node.args[3:6] == (0, -127, 127)
        zero_points = node.all_input_nodes[2]
        assert not getattr(graph, str(zero_points.target)).any()


def test_a_module_kept_float_stays_float_and_only_that_module(attention: Attention) -> None:
    recipe = Recipe("mine", find_recipe("int8").precision, "min-max", True, ("body",))

    graph = converted(attention, recipe)

    for node in nodes(graph, *CONVOLUTIONS):
        has_int8_weight = node.all_input_nodes[1].target is _dequantize_channels
        assert has_int8_weight != in_modules(node, ["body"])


def test_a_kept_float_name_that_matches_nothing_lists_near_names(attention: Attention) -> None:
    recipe = Recipe("mine", find_recipe("int8").precision, "min-max", True, ("haed",))

    with pytest.raises(UnsupportedError, match=r"'haed'.*Nearest: head"):
        prepare(attention, recipe)


def test_a_recipe_that_quantizes_no_convolution_is_refused(attention: Attention) -> None:
    names = ("lift", "gate", "body", "head", "mask")
    recipe = Recipe("mine", find_recipe("int8").precision, "min-max", True, names)

    with pytest.raises(UnsupportedError, match="0 quantized convolutions of 5"):
        prepare(attention, recipe)


def test_a_recipe_without_observer_cannot_be_prepared(attention: Attention) -> None:
    with pytest.raises(UnsupportedError, match="no observer"):
        prepare(attention, find_recipe("fp32"))


def test_a_network_torch_cannot_trace_is_refused(
    attention: Attention, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward: Callable[..., Tensor] = attention.forward
    monkeypatch.setattr(
        attention, "forward", lambda *inputs: forward(*inputs) if inputs[0].sum() > 0 else inputs[0]
    )

    with pytest.raises(UnsupportedError, match="torch.export cannot trace it"):
        prepare(attention, find_recipe("int8"))


@pytest.mark.parametrize(("share", "kept"), [(0.0, 0), (0.3, 1), (1.0, 2)])
def test_convolutions_that_write_pictures_stay_float_within_their_share(
    attention: Attention, share: float, kept: int
) -> None:
    graph = converted(attention, replace(find_recipe("int8"), float_heads=share))

    assert states(graph, *CONVOLUTIONS).count(False) == kept
