"""Fusing: parallel branches and BatchNorm become plain convolutions, on a proved copy."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dfnet.errors import UnsupportedError
from dfnet.signature import Feed
from dfnet.tensors import feed_tensors
from quantize.trace import trace

log = logging.getLogger(__name__)

TOLERANCE = 1e-5
"""Largest difference of an output value that folding may cause: float32 rounding on [0, 1]."""

_aten = torch.ops.aten
_CONVOLUTIONS = (
    _aten.conv2d.default,
    _aten.conv2d.padding,
    _aten.conv_transpose2d.input,
)


def fuse(network: nn.Module, proof_feeds: Sequence[Feed]) -> nn.Module:
    """A copy of ``network`` in eval mode that computes the same with fewer operators.

    Submodules with a ``fuse()`` method fold themselves; then every BatchNorm that alone consumes
    a convolution is folded into it. ``network`` itself is not changed. The copy is run against
    the original on ``proof_feeds``.

    Raises:
        UnsupportedError: no proof feeds; a ``fuse()`` that returns no module; an output that is
            not one tensor; or outputs that differ by more than ``TOLERANCE``.
    """
    if not proof_feeds:
        raise UnsupportedError(
            "Fusing: got 0 proof feeds, needed at least one to prove the copy equal. "
            "Give captures of the kind the network will see."
        )
    with torch.no_grad():
        original = copy.deepcopy(network).eval()
        fused = _fuse_blocks(copy.deepcopy(network).eval())
        folded = _fold_norms(fused)
        difference = max(_difference(original, fused, feed) for feed in proof_feeds)
    # Written so that NaN fails too.
    if not difference <= TOLERANCE:
        raise UnsupportedError(
            f"Fusing {type(network).__name__}: the fused copy differs by {difference:.2e}, needed "
            f"at most {TOLERANCE:.0e}. Check the fuse() methods of its blocks."
        )
    log.info(
        "Fused %s: folded %d BatchNorm after tracing; largest difference %.1e on %d feeds",
        type(network).__name__,
        folded,
        difference,
        len(proof_feeds),
    )
    return fused.eval().requires_grad_(False)


def _fuse_blocks(module: nn.Module) -> nn.Module:
    """``module`` with every block that can fuse itself replaced by the result."""
    fold_itself = getattr(module, "fuse", None)
    if callable(fold_itself):
        fused = fold_itself()
        if not isinstance(fused, nn.Module):
            raise UnsupportedError(
                f"Fusing {type(module).__name__}: its fuse() returned {type(fused).__name__}, "
                "needed an nn.Module. Return the fused block."
            )
        return fused
    for name, child in list(module.named_children()):
        replacement = _fuse_blocks(child)
        if replacement is not child:
            log.info("Fused block %s (%s)", name, type(child).__name__)
            setattr(module, name, replacement)
    return module


def _fold_norms(network: nn.Module) -> int:
    """Folds BatchNorm into the convolutions that feed it, in place; returns how many."""
    norms = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return 0
    try:
        graph = trace(network).module().graph
    except UnsupportedError as error:
        log.warning("%d BatchNorm stay unfolded: %s", len(norms), error)
        return 0
    pairs = _foldable_pairs(graph, network)
    for conv_name, norm_name in pairs:
        conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
        network.set_submodule(conv_name, _folded(conv, norm))
        network.set_submodule(norm_name, nn.Identity())
        log.info("Folded BatchNorm %s into %s", norm_name, conv_name)
    for name in sorted(set(norms) - {norm_name for _, norm_name in pairs}):
        log.warning("BatchNorm %s stays: it is not the only consumer of one convolution", name)
    return len(pairs)


def _foldable_pairs(graph: Graph, network: nn.Module) -> list[tuple[str, str]]:
    """Names of (convolution, BatchNorm) modules, each used once, the second after the first."""
    pairs = []
    for node in graph.nodes:
        if node.target is not _aten.batch_norm.default:
            continue
        source = node.args[0]
        if source.target not in _CONVOLUTIONS or len(source.users) > 1:
            continue
        pair = _sole_owner(source.args[1]), _sole_owner(node.args[3])
        if _can_fold(*(network.get_submodule(name) if name else None for name in pair)):
            pairs.append(pair)
    return pairs


def _sole_owner(tensor: object) -> str:
    """The module holding a parameter or buffer that the graph reads once, else ""."""
    if not isinstance(tensor, Node) or tensor.op != "get_attr" or len(tensor.users) != 1:
        return ""
    return str(tensor.target).rpartition(".")[0]


def _can_fold(conv: nn.Module | None, norm: nn.Module | None) -> bool:
    # torch's folding does not know a transposed convolution's grouped weight layout.
    grouped = isinstance(conv, nn.ConvTranspose2d) and conv.groups > 1
    folds = isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) and not grouped
    return folds and isinstance(norm, nn.BatchNorm2d)


def _folded(conv: nn.Module, norm: nn.Module) -> nn.Module:
    transposed = isinstance(conv, nn.ConvTranspose2d)
    folded: nn.Module = fuse_conv_bn_eval(conv, norm, transpose=transposed)  # type: ignore
    return folded


def _difference(original: nn.Module, fused: nn.Module, feed: Feed) -> float:
    inputs = feed_tensors(feed)
    reference, candidate = original(*inputs), fused(*inputs)
    for output in (reference, candidate):
        if not isinstance(output, Tensor) or output.shape != reference.shape:
            raise UnsupportedError(
                f"Network {type(original).__name__}: got an output of type "
                f"{type(output).__name__}, needed one tensor before and after fusing. "
                "Return the refocused picture alone."
            )
    return float((reference - candidate).abs().max())
