"""DFNet: shapes, the strides it takes, and blocks that fuse themselves exactly."""

import pytest
import torch
from torch import nn

from dfnet.errors import UnsupportedError
from dfnet.model import ConvReLU, DFNet, DFNetConfig, ResidualBlock
from dfnet.profiles import Resolution
from dfnet.signature import INPUTS, check_feed
from dfnet.tensors import example_inputs, feed_tensors


def randomize(module: nn.Module) -> nn.Module:
    """Gives BatchNorm statistics that matter."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]
    return module.eval()


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (8, 8)])
def test_output_has_the_input_size(tiny_network: DFNet, size: tuple[int, int]) -> None:
    with torch.no_grad():
        output = tiny_network(*example_inputs(Resolution(*size)))
    assert output.shape == (1, 3, *size)


@pytest.mark.parametrize("size", [(60, 64), (64, 65)])
def test_sizes_off_the_stride_are_refused(tiny_network: DFNet, size: tuple[int, int]) -> None:
    with pytest.raises(UnsupportedError, match="multiples of 8"):
        tiny_network(*example_inputs(Resolution(*size)))


def test_every_input_matters(tiny_network: DFNet) -> None:
    inputs = list(example_inputs(Resolution(32, 32)))
    with torch.no_grad():
        before = tiny_network(*inputs)
        for index, spec in enumerate(INPUTS):
            changed = [*inputs]
            changed[index] = 1 - inputs[index]
            assert not torch.equal(tiny_network(*changed), before), spec.name


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("make", [ConvReLU, ResidualBlock])
def test_blocks_fuse_exactly(make: type[nn.Module], norm: bool) -> None:
    torch.manual_seed(0)
    block = make(8, 8, norm=norm) if make is ConvReLU else make(8, norm=norm)
    randomize(block)
    x = torch.rand(1, 8, 16, 16)
    with torch.no_grad():
        fused = block.fuse()  # type: ignore[operator]
        assert torch.allclose(fused(x), block(x), atol=1e-5)
    kinds = [type(m) for m in fused.modules() if not isinstance(m, nn.Sequential)]
    assert kinds == [nn.Conv2d, nn.ReLU]


def test_the_merged_kernel_is_the_sum_of_three_branches() -> None:
    block = ResidualBlock(4)
    x = torch.rand(1, 4, 12, 12)
    with torch.no_grad():
        branches = torch.relu(block.conv(x) + block.point(x) + x)
        assert torch.allclose(block(x), branches, atol=1e-6)


def test_width_is_configuration() -> None:
    narrow, wide = (
        sum(p.numel() for p in DFNet(DFNetConfig(width=width)).parameters()) for width in (8, 16)
    )
    assert 3 < wide / narrow < 4.5
    with pytest.raises(UnsupportedError, match="positive widths"):
        DFNetConfig(width=0)


def test_feed_checks_name_what_is_wrong(tiny_network: DFNet) -> None:
    feed = {
        spec.name: tensor.numpy()
        for spec, tensor in zip(INPUTS, example_inputs(Resolution(16, 16)), strict=True)
    }
    check_feed(feed)
    with pytest.raises(UnsupportedError, match="needed"):
        check_feed({k: v for k, v in feed.items() if k != "occlusion"})
    with pytest.raises(UnsupportedError, match="'occlusion'"):
        check_feed({**feed, "occlusion": feed["occlusion"][:, :, :8]})
    with pytest.raises(UnsupportedError, match="float64"):
        check_feed({**feed, "wide": feed["wide"].astype("float64")})


def test_feed_tensors_are_contiguous_whatever_the_source() -> None:
    feed = {
        spec.name: tensor.contiguous(memory_format=torch.channels_last).numpy()
        for spec, tensor in zip(INPUTS, example_inputs(Resolution(16, 16)), strict=True)
    }
    assert all(t.is_contiguous() and t.stride(-1) == 1 for t in feed_tensors(feed))
