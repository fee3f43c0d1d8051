"""What goldens must compute, in numpy loops or torch: arithmetic and compressed weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from export.mil.golden import Inputs, eighths
from export.mil.golden_numbers import SCALE, half_weights
from export.mil.golden_weights import IN, OUT, codes

Array = npt.NDArray[Any]
Outputs = dict[str, Array]


def conv_padding(inputs: Inputs) -> Outputs:
    """Padding as TensorFlow's SAME, whose odd one out is after, or with same_lower before."""
    outputs: Outputs = {}
    weights = {"even": eighths(10, 3, 2, 4, 2), "odd": eighths(11, 3, 2, 3, 3)}
    for kind, weight in weights.items():
        totals = [
            max((math.ceil(n / 2) - 1) * 2 + k - n, 0)
            for n, k in zip((7, 6), weight.shape[2:], strict=True)
        ]
        for padding in ("same", "same_lower"):
            before = [t // 2 if padding == "same" else t - t // 2 for t in totals]
            around = [(b, t - b) for b, t in zip(before, totals, strict=True)]
            x = torch.from_numpy(np.pad(inputs["x"], [(0, 0), (0, 0), *around]))
            result = functional.conv2d(x, torch.from_numpy(weight), stride=2)
            outputs[f"{kind}_{padding}"] = result.numpy()
    return outputs


def conv_transpose(inputs: Inputs) -> Outputs:
    x, weight = inputs["x"], eighths(12, 3, 2, 3, 3)
    full = np.zeros((1, 2, 9, 11), np.float32)
    for c, o, i, j, down, across in np.ndindex(3, 2, 4, 5, 3, 3):
        full[0, o, 2 * i + down, 2 * j + across] += x[0, c, i, j] * weight[c, o, down, across]
    return {
        "larger": full[:, :, 1:9, 1:11],
        "smaller": full[:, :, 1:8, 1:10],
        "valid": full,
    }


def half_sums(inputs: Inputs) -> Outputs:
    weight = torch.from_numpy(half_weights().astype(np.float64))
    exact = functional.conv2d(torch.from_numpy(inputs["x"]).double(), weight, padding=1)
    return {"y": exact.numpy().astype(np.float16).astype(np.float32)}


def half_overflow(inputs: Inputs) -> Outputs:
    half = inputs["x"].astype(np.float16).astype(np.float64)
    square = np.where(half**2 >= 65520, np.inf, half**2)
    rounded = np.where(np.isinf(square), 0, square).astype(np.float16).astype(np.float64)
    rounded[np.isinf(square)] = np.inf
    return {"square": rounded, "small": rounded / 1024}


def quantize_ties(inputs: Inputs) -> Outputs:
    whole = np.array([round(float(value)) for value in inputs["x"].ravel()])  # halves to even
    whole = whole.reshape(inputs["x"].shape)
    signed = np.clip(whole, -128, 127)
    return {"signed": signed, "unsigned": np.clip(whole + 100, 0, 255), "dequantized": signed}


def quantize_division(inputs: Inputs) -> Outputs:
    return {"y": np.clip(np.round(inputs["x"] / SCALE), -128, 127)}


def gelu(inputs: Inputs) -> Outputs:
    x = inputs["x"].astype(np.float64)
    cubic = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return {
        "exact": 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
        "tanh_approximation": 0.5 * x * (1 + np.tanh(cubic)),
        "sigmoid_approximation": x / (1 + np.exp(-1.702 * x)),
    }


def norms(inputs: Inputs) -> Outputs:
    x = inputs["x"].astype(np.float64)

    def channels(values: Array) -> Array:
        return values.reshape(1, 3, 1, 1)

    gamma, beta = channels(eighths(14, 3)), channels(eighths(15, 3))
    mean, variance = channels(eighths(16, 3)), channels(np.abs(eighths(17, 3)) + 0.5)
    own = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-3)
    return {
        "batch": gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta,
        "instance": gamma * own + beta,
        "layer": eighths(18, 4, 5) * own + eighths(19, 4, 5),
    }


def seen(weight: Array) -> Outputs:
    """What a 1x1 convolution of one-hot pixels makes of [OUT, IN] weights."""
    return {"y": weight.reshape(1, OUT, 1, IN)}


def weights_affine(_: Inputs) -> Outputs:
    scale = (np.abs(eighths(32, OUT)) + 0.125)[:, None]
    return seen(scale * (codes(30, -128, 128, OUT, IN) - codes(31, -20, 20, OUT)[:, None]))


def weights_blockwise(_: Inputs) -> Outputs:
    scale, offset = np.abs(eighths(34, OUT, 2)) + 0.125, codes(35, -3, 4, OUT, 2)
    data, weight = codes(33, -8, 8, OUT, IN), np.zeros((OUT, IN))
    for o, i in np.ndindex(OUT, IN):
        weight[o, i] = scale[o, i // 4] * (data[o, i] - offset[o, i // 4])
    return seen(weight)


def weights_table(_: Inputs) -> Outputs:
    return seen(np.array([-2.5, 0.5, 1.25, 4])[codes(36, 0, 4, OUT, IN)])


def weights_grouped_table(_: Inputs) -> Outputs:
    tables, indices = eighths(38, 2, 16), codes(37, 0, 16, OUT, IN)
    return seen(np.stack([tables[o // 3][indices[o]] for o in range(OUT)]))


def weights_sparse(_: Inputs) -> Outputs:
    mask = codes(39, 0, 2, OUT, IN)
    values = iter(eighths(40, int(mask.sum())))
    return seen(np.array([next(values) if bit else 0 for bit in mask.ravel()]))
