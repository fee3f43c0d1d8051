"""u + m * (w - u) becomes m * w + (1 - m) * u, and nothing else does."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, pixel_shuffle

from dfnet.profiles import Precision, Resolution
from dfnet.tensors import example_inputs
from quantize.blend import split_blends
from quantize.recipe import Recipe

from small_networks import SmallNetwork, calibrated, int8_error, noise_crops, outputs, traced

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")

_aten = torch.ops.aten


class Masks(nn.Module):
    """Convolutions whose results are logits."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 3, 3, padding=1)
        self.single = nn.Conv2d(3, 1, 1, bias=False)
        self.many = nn.Conv2d(3, 12, 3, 2, 1)
        self.up = nn.ConvTranspose2d(3, 3, 2, 2)


Form = Callable[[Masks, Tensor, Tensor], Tensor]
"""A blend of u and w."""


class Blend(SmallNetwork):
    def __init__(self, form: Form) -> None:
        super().__init__()
        self.masks = Masks()
        self.form = form

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        return self.form(self.masks, wide, ultrawide)


def mask(masks: Masks, u: Tensor) -> Tensor:
    return torch.sigmoid(masks.plain(u))


def from_logits(rearranged: Callable[[Masks, Tensor], Tensor]) -> Form:
    """The blend whose mask is the sigmoid of ``rearranged``."""
    return lambda masks, u, w: u + torch.sigmoid(rearranged(masks, u)) * (w - u)


def two_blends_of_one_mask(masks: Masks, u: Tensor, w: Tensor) -> Tensor:
    m = mask(masks, u)
    first = u + m * (w - u)
    return first + m * (w * w - first)


def difference_read_again(masks: Masks, u: Tensor, w: Tensor) -> Tensor:
    difference = w - u
    return u + mask(masks, u) * difference + 0.1 * difference.abs()


def product_read_again(masks: Masks, u: Tensor, w: Tensor) -> Tensor:
    product = mask(masks, u) * (w - u)
    return (u + product) * product.abs()


REWRITTEN: dict[str, tuple[int, Form]] = {
    "u + m (w - u)": (1, lambda m, u, w: u + mask(m, u) * (w - u)),
    "m (w - u) + u": (1, lambda m, u, w: mask(m, u) * (w - u) + u),
    "u + (w - u) m": (1, lambda m, u, w: u + (w - u) * mask(m, u)),
    "(w - u) m + u": (1, lambda m, u, w: (w - u) * mask(m, u) + u),
    "a mask of one channel, no bias": (1, from_logits(lambda m, u: m.single(u))),
    "shuffled logits": (1, from_logits(lambda m, u: pixel_shuffle(m.many(u), 2))),
    "enlarged logits": (
        1,
        from_logits(lambda m, u: interpolate(m.plain(avg_pool2d(u, 2)), scale_factor=2.0)),
    ),
    "transposed convolution": (1, from_logits(lambda m, u: m.up(avg_pool2d(u, 2)))),
    "two with one mask": (2, two_blends_of_one_mask),
}

LEFT: dict[str, Form] = {
    "the difference has another reader": difference_read_again,
    "the product has another reader": product_read_again,
    "the mask is no sigmoid": lambda m, u, w: u + torch.relu(m.plain(u)) * (w - u),
    "the mask is over no convolution": from_logits(lambda m, u: u),
    "a ReLU lies in between": from_logits(lambda m, u: torch.relu(m.plain(u))),
    "a maximum lies in between": from_logits(lambda m, u: max_pool2d(m.plain(u), 3, 1, 1)),
    "several logits are joined": from_logits(lambda m, u: torch.cat([m.single(u), u[:, :2]], 1)),
    "the sum has a factor": lambda m, u, w: torch.add(u, mask(m, u) * (w - u), alpha=2),
    "the difference has a factor": lambda m, u, w: u + mask(m, u) * torch.sub(w, u, alpha=2),
    "another picture is subtracted": lambda m, u, w: u + mask(m, u) * (w - u * u),
    "the difference is the other way round": lambda m, u, w: u + mask(m, u) * (u - w),
    "a number is the picture": lambda m, u, w: 0.5 + mask(m, u) * (w - 0.5),
}


def blend_graph(form: Form) -> GraphModule:
    torch.manual_seed(0)
    return traced(Blend(form))


def operators(graph: GraphModule) -> list[object]:
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def count(graph: GraphModule, target: object) -> int:
    return operators(graph).count(target)


def largest_difference(one: GraphModule, other: GraphModule) -> float:
    return float((outputs(one, noise_crops()) - outputs(other, noise_crops())).abs().max())


@pytest.mark.parametrize("name", REWRITTEN)
def test_a_blend_is_rewritten_and_computes_the_same(name: str) -> None:
    blends, form = REWRITTEN[name]
    graph = blend_graph(form)
    rewritten = copy.deepcopy(graph)

    assert split_blends(rewritten) == blends

    assert count(graph, _aten.sub.Tensor) == blends
    assert count(rewritten, _aten.sub.Tensor) == 0
    assert count(rewritten, _aten.mul.Tensor) == count(graph, _aten.mul.Tensor) + blends
    assert largest_difference(graph, rewritten) < 1e-6
    assert split_blends(rewritten) == 0


@pytest.mark.parametrize("name", LEFT)
def test_what_is_no_such_blend_is_left(name: str) -> None:
    graph = blend_graph(LEFT[name])
    left = copy.deepcopy(graph)

    assert split_blends(left) == 0

    assert operators(left) == operators(graph)
    assert largest_difference(graph, left) == 0


def test_a_rewritten_graph_runs_at_other_sizes() -> None:
    graph = blend_graph(REWRITTEN["shuffled logits"][1])
    rewritten = copy.deepcopy(graph)
    split_blends(rewritten)
    inputs = example_inputs(Resolution(64, 24))

    torch.testing.assert_close(rewritten(*inputs), graph(*inputs))


def test_the_weights_of_the_mask_itself_stay() -> None:
    graph = blend_graph(REWRITTEN["u + m (w - u)"][1])
    before = {name: tensor.clone() for name, tensor in graph.state_dict().items()}

    split_blends(graph)

    after = graph.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    added = sorted(set(after) - set(before))
    assert added == ["masks_plain_bias_negated", "masks_plain_weight_negated"]


class Named(SmallNetwork):
    """Two masks whose names differ in a dot alone."""

    def __init__(self) -> None:
        super().__init__()
        self.mask = nn.ModuleDict({"head": nn.Conv2d(3, 3, 1)})
        self.mask_head = nn.Conv2d(3, 3, 1)

    def restore(self, wide: Tensor, ultrawide: Tensor) -> Tensor:
        near = wide + torch.sigmoid(self.mask["head"](wide)) * (ultrawide - wide)
        far = near * near
        return near + torch.sigmoid(self.mask_head(ultrawide)) * (far - near)


def test_masks_with_similar_names_are_not_confused() -> None:
    torch.manual_seed(0)
    graph = traced(Named())
    rewritten = copy.deepcopy(graph)

    assert split_blends(rewritten) == 2
    assert largest_difference(graph, rewritten) < 1e-6


def test_int8_errs_less_after_it() -> None:
    graph = blend_graph(REWRITTEN["u + m (w - u)"][1])
    rewritten = copy.deepcopy(graph)
    split_blends(rewritten)
    recipe = Recipe("everything", Precision.W8A8, observer="min-max")

    errors = [
        int8_error(calibrated(one, recipe), graph, noise_crops()) for one in (graph, rewritten)
    ]

    assert errors[1] < 0.9 * errors[0]
