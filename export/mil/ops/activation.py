"""Activation functions.

Follows coremltools' MIL definitions ``iOS15/activation.py`` and ``iOS17/activation.py``, and
``tanh`` of ``iOS15/elementwise_unary.py``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from export.mil.registry import Tensor, one_of, operation


@operation("relu")
def _relu(x: Tensor) -> Tensor:
    return F.relu(x)


@operation("relu6")
def _relu6(x: Tensor) -> Tensor:
    return F.relu6(x)


@operation("silu")
def _silu(x: Tensor) -> Tensor:
    return F.silu(x)


@operation("sigmoid")
def _sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


@operation("softplus")
def _softplus(x: Tensor) -> Tensor:
    return F.softplus(x)


@operation("softsign")
def _softsign(x: Tensor) -> Tensor:
    return F.softsign(x)


@operation("tanh")
def _tanh(x: Tensor) -> Tensor:
    return torch.tanh(x)


@operation("leaky_relu")
def _leaky_relu(x: Tensor, alpha: float) -> Tensor:
    return F.leaky_relu(x, alpha)


@operation("prelu")
def _prelu(x: Tensor, alpha: Tensor) -> Tensor:
    return F.prelu(x, alpha)


@operation("elu")
def _elu(x: Tensor, alpha: float) -> Tensor:
    return F.elu(x, alpha)


@operation("gelu")
def _gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    one_of("mode", mode, ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"))
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


@operation("clamped_relu")
def _clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``beta`` bounds both branches: a negative ``alpha`` makes the left one positive."""
    return F.leaky_relu(x, alpha).clamp_max(beta)


@operation("thresholded_relu")
def _thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """Not ``F.threshold``, which drops ``x == alpha`` too."""
    return x.masked_fill(x < alpha, 0.0)


@operation("linear_activation")
def _linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    return x * alpha + beta


@operation("scaled_tanh")
def _scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.tanh(x * beta) * alpha


@operation("sigmoid_hard")
def _sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (x * alpha + beta).clamp(0.0, 1.0)


@operation("softplus_parametric")
def _softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    channels = (-1, *(1,) * (x.dim() - 2))
    return alpha.reshape(channels) * F.softplus(beta.reshape(channels) * x)


@operation("softmax")
def _softmax(x: Tensor, axis: int = -1) -> Tensor:
    return torch.softmax(x, axis)
