"""The scales a .pte file holds, in the parts that XNNPACK or Core ML compute.

XNNPACK's part is a flatbuffer behind a header; its schema and the compiler that turns it into JSON
come with ExecuTorch.
"""

from __future__ import annotations

import importlib.resources
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import executorch.backends.xnnpack.serialization as xnnpack
import numpy as np
import numpy.typing as npt
from executorch.backends.apple.coreml import executorchcoreml
from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
from executorch.exir._serialize._flatbuffer import _flatc_decompile
from executorch.exir._serialize._program import PTEFile, deserialize_pte_binary

from dfnet.errors import UnsupportedError
from export import mil_scales
from export.mil import Package
from export.mil.program import Function
from export.scales import ConvolutionScales, Quantization, TensorScale, weight_bytes_nhwc

_XNNPACK, _CORE_ML = "XnnpackBackend", "CoreMLBackend"
_PACKAGE = "model.mlpackage"
_CONVOLUTIONS = frozenset({"XNNConv2d", "XNNDepthwiseConv2d", "XNNConvTranspose2d"})
_MATRIX = "XNNFullyConnected"
_CONVERT = "XNNConvert"
_CODES = frozenset({"xnn_datatype_qint8", "xnn_datatype_qcint8"})


def read_scales(buffer: bytes) -> Quantization:
    """The int8 tensors of the file's delegated parts, in order of execution.

    Raises:
        UnsupportedError: a Core ML part is no package.
    """
    parts = []
    for delegate, payload, file in _delegates(buffer):
        if delegate == _XNNPACK:
            parts.append(_Part(payload, file).read())
        elif delegate == _CORE_ML:
            parts.append(mil_scales.read_scales(_core_ml(payload)))
    return Quantization(
        tuple(one for part in parts for one in part.convolutions),
        tuple(one for part in parts for one in part.tensors),
        tuple(one for part in parts for one in part.requantized),
        tuple(one for part in parts for one in part.remarks),
    )


def computed_in_float(buffer: bytes) -> dict[str, int]:
    """Counts by operator of what the file's delegated parts compute in floating point.

    Raises:
        UnsupportedError: a Core ML part is no package.
    """
    counts: Counter[str] = Counter()
    for delegate, payload, file in _delegates(buffer):
        if delegate == _XNNPACK:
            counts.update(_Part(payload, file).floats())
        elif delegate == _CORE_ML:
            counts.update(mil_scales.computed_in_float(_core_ml(payload)))
    return dict(sorted(counts.items()))


def _delegates(buffer: bytes) -> Iterator[tuple[str, bytes, PTEFile]]:
    """Name, contents and file of each delegated part, in order of execution."""
    file = deserialize_pte_binary(buffer)
    (plan,) = file.program.execution_plan
    for delegate in plan.delegates:
        payload = bytes(file.program.backend_delegate_data[delegate.processed.index].data)
        yield delegate.id, payload, file


def _core_ml(payload: bytes) -> Function:
    with tempfile.TemporaryDirectory() as folder:
        if not executorchcoreml.unflatten_directory_contents(payload, folder):
            raise UnsupportedError(
                "ExecuTorch Core ML part: got bytes that are no folder, needed a Core ML package. "
                "Use the coreml runtime."
            )
        (root,) = Path(folder).iterdir()
        return Package(root / _PACKAGE).function()


class _Part:
    """One XNNPACK graph: its nodes, its values by number, its constants."""

    def __init__(self, payload: bytes, file: PTEFile) -> None:
        self._payload, self._named = payload, file.named_data
        self._header = XNNHeader.from_bytes(payload[: XNNHeader.EXPECTED_LENGTH])
        start = self._header.flatbuffer_offset
        graph = _decode(payload[start : start + self._header.flatbuffer_size])
        self._nodes = [(n["xnode_union_type"], n["xnode_union"]) for n in graph["xnodes"]]
        self._constants = graph["constant_data"]
        self._values = dict(map(_numbered, graph["xvalues"]))

    def read(self) -> Quantization:
        return Quantization(
            tuple(self._convolutions()), tuple(self._tensors()), tuple(self._requantized())
        )

    def floats(self) -> Iterator[str]:
        """Names of operators whose result is no code; conversions to and from codes left out."""
        for kind, node in self._nodes:
            if kind != _CONVERT and self._scale(node["output_id"]) is None:
                yield kind

    def _convolutions(self) -> Iterator[ConvolutionScales]:
        for kind, node in self._nodes:
            if kind not in _CONVOLUTIONS and kind != _MATRIX:
                continue
            source, weight = self._scale(node["input1_id"]), self._scale(node["filter_id"])
            if source and weight:
                value = self._values[node["filter_id"]]
                codes = self._constant(value["tensor_value"]["constant_buffer_idx"], np.int8)
                yield ConvolutionScales(
                    f"{kind} {node['output_id']}",
                    weight_bytes_nhwc(
                        codes.reshape(value["tensor_value"]["dims"]),
                        value["quant_params"].get("channel_dim", 0),
                    ),
                    weight,
                    source,
                    self._scale(node["output_id"]),
                )

    def _tensors(self) -> Iterator[TensorScale]:
        for number, value in self._values.items():
            tensor = value.get("tensor_value", {})
            if tensor and not tensor["constant_buffer_idx"] and (scale := self._scale(number)):
                yield scale

    def _requantized(self) -> Iterator[tuple[TensorScale, TensorScale]]:
        for kind, node in self._nodes:
            if kind == _CONVERT:
                before, after = self._scale(node["input_id"]), self._scale(node["output_id"])
                if before and after and not before.equals(after):
                    yield before, after

    def _scale(self, number: int) -> TensorScale | None:
        """None for a value that is not int8."""
        value = self._values[number]
        if value.get("tensor_value", {}).get("datatype") not in _CODES:
            return None
        given = value["quant_params"]
        if value["quant_params_type"] == "PerTensorQuant":
            scales = _floats([given["scale"]])
        elif given["scale_buffer_idx"]:
            scales = self._constant(given["scale_buffer_idx"], np.float32)[: given["num_scales"]]
        else:
            scales = _floats(given["scale"])
        return TensorScale(
            f"value {number}", tuple(map(float, scales)), int(given.get("zero_point", 0))
        )

    def _constant(self, index: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A constant from the file's named data or from behind the graph, 1-D."""
        place = self._constants[index]
        if place["named_key"]:
            entry = self._named.pte_data[place["named_key"]]
            data = self._named.buffers[entry.buffer_index][: place["size"]]
        else:
            start = self._header.constant_data_offset + place["offset"]
            data = self._payload[start : start + place["size"]]
        return np.frombuffer(data, dtype)


def _decode(flatbuffer: bytes) -> Any:
    """An XNNPACK graph as JSON, every float in it as the integer of the same bits.

    flatc prints floats with six decimals, which is no scale any more.
    """
    schema = importlib.resources.files(xnnpack).joinpath("schema.fbs").read_text()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "schema.fbs").write_text(re.sub(r"\bfloat\b", "uint", schema))
        (Path(folder) / "graph.bin").write_bytes(flatbuffer)
        _flatc_decompile(folder, f"{folder}/schema.fbs", f"{folder}/graph.bin")
        return json.loads((Path(folder) / "graph.json").read_text())


def _floats(bits: list[int]) -> npt.NDArray[np.float32]:
    return np.asarray(bits, np.uint32).view(np.float32)


def _numbered(value: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """A value's number, and the value; float ones have no ``tensor_value``."""
    content = value["xvalue_union"]
    return content.get("tensor_value", content)["id_out"], content
