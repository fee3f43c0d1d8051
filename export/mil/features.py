"""The features of a package's description: arrays and pictures to tensors, and back.

What Core ML converts before and after a program, so far as Apple documents it: an array takes the
declared ``MLMultiArray`` type, a picture becomes (1, C, H, W) in [0, 255] in the declared channel
order (scale and bias are operations inside the program).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from dfnet.errors import ArtifactError, UnsupportedError
from export.mil.program import TensorType
from export.mil.protobuf import FeatureTypes_pb2
from export.mil.shapes import check_array_shape, check_picture_size

Feature = npt.NDArray[Any] | Image.Image
"""A value at the face of a package: an array, or a picture (PIL, or uint8 HWC / HW)."""

_ARRAY_TYPES: dict[str, npt.DTypeLike] = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "DOUBLE": np.float64,
    "INT32": np.int32,
    "INT8": np.int8,
}
_GRAY = "GRAYSCALE"
_GRAY_FLOAT16 = "GRAYSCALE_FLOAT16"
_CHANNELS = {"RGB": (0, 1, 2), "BGR": (2, 1, 0)}
"""Which channel of an RGB picture stands where in the tensor; its own inverse."""

_PICTURES: dict[str, tuple[int, tuple[str, ...], str]] = {
    "RGB": (3, ("u1",), "a uint8 HWC picture of 3 channels"),
    "BGR": (3, ("u1",), "a uint8 HWC picture of 3 channels"),
    _GRAY: (2, ("u1",), "a uint8 HW picture"),
    _GRAY_FLOAT16: (2, ("f2", "f4"), "a float HW picture"),
}
"""Color space -> rank, types and name of what a picture input takes."""


def read_inputs(described: Mapping[str, Any], values: Mapping[str, Feature]) -> dict[str, Any]:
    """Tensors for a function's inputs; optional ones that are missing take their default.

    ``described`` are ``FeatureDescription`` messages by name.

    Raises:
        UnsupportedError: an input is missing, unknown, or of a shape the package does not take.
    """
    unknown = values.keys() - described.keys()
    missing = {
        name for name, f in described.items() if name not in values and not f.type.isOptional
    }
    if unknown or missing:
        raise UnsupportedError(
            f"Core ML inputs: got {', '.join(sorted(values)) or 'none'}, needed "
            f"{', '.join(described)}. Give every input of the package and no other."
        )
    return {
        name: _to_tensor(feature, values[name]) if name in values else _default(feature)
        for name, feature in described.items()
    }


def write_output(feature: Any, tensor: torch.Tensor) -> Feature:
    """A function's output as Core ML would hand it over: an array of the declared type (a scalar
    as one element), or a PIL picture.

    A picture's values are rounded half up and clipped to [0, 255]. Apple does not document its
    rounding; a program that ends with whole numbers in range does not depend on it.

    Raises:
        ArtifactError: the description names a type this does not know.
    """
    kind = feature.type.WhichOneof("Type")
    if kind == "imageType":
        return _to_picture(feature.type.imageType, tensor)
    if kind != "multiArrayType":
        raise ArtifactError(
            f"Core ML output {feature.name}: got the type {kind}, needed an array or a picture."
        )
    array = tensor.cpu().numpy()
    return np.atleast_1d(array).astype(_array_type(feature))


def zero_state(declared: TensorType) -> torch.Tensor:
    """The state of a function before its first call: zeros, in the type's carrier.

    Raises:
        ArtifactError: its shape is not fixed.
    """
    if declared.shape is None or None in declared.shape:
        raise ArtifactError("Core ML state: got no fixed shape, needed one. Export again.")
    return torch.zeros([n or 0 for n in declared.shape], dtype=declared.dtype.carrier)


def _array_type(feature: Any) -> npt.DTypeLike:
    enum = FeatureTypes_pb2.ArrayFeatureType.ArrayDataType
    code = feature.type.multiArrayType.dataType
    name = enum.Name(code) if code in enum.values() else str(code)
    if name not in _ARRAY_TYPES:
        raise ArtifactError(
            f"Core ML feature {feature.name}: got the array type {name}, needed one of "
            f"{', '.join(_ARRAY_TYPES)}. Export again."
        )
    return _ARRAY_TYPES[name]


def _to_tensor(feature: Any, value: Feature) -> torch.Tensor:
    kind = feature.type.WhichOneof("Type")
    if kind == "imageType":
        return _from_picture(feature, value)
    if kind == "multiArrayType":
        array = np.asarray(value)
        check_array_shape(feature.name, feature.type.multiArrayType, array.shape)
        return torch.from_numpy(np.array(array, _array_type(feature), order="C"))
    raise ArtifactError(
        f"Core ML input {feature.name}: got the type {kind}, needed an array or a picture."
    )


def _default(feature: Any) -> torch.Tensor:
    array = feature.type.multiArrayType
    chosen = array.WhichOneof("defaultOptionalValue")
    value = getattr(array, chosen) if chosen else 0
    return torch.from_numpy(np.full(tuple(array.shape), value, _array_type(feature)))


def _from_picture(feature: Any, value: Feature) -> torch.Tensor:
    space = _color_space(feature.type.imageType)
    picture = np.asarray(value)
    rank, kinds, needed = _PICTURES[space]
    fits = picture.ndim == rank and (rank == 2 or picture.shape[2] == 3)
    if not fits or picture.dtype.str[1:] not in kinds:
        raise UnsupportedError(
            f"Core ML input {feature.name}: got {picture.dtype} {picture.shape}, needed {needed}."
        )
    check_picture_size(feature.name, feature.type.imageType, picture.shape[:2])
    if rank == 2:
        return torch.from_numpy(picture.astype(np.float32))[None, None]
    planes = picture.transpose(2, 0, 1)[list(_CHANNELS[space])]
    return torch.from_numpy(planes.astype(np.float32))[None]


def _to_picture(image_type: Any, tensor: torch.Tensor) -> Image.Image:
    space = _color_space(image_type)
    values = tensor.to(torch.float32).cpu().numpy()
    if space == _GRAY_FLOAT16:
        return Image.fromarray(values.reshape(values.shape[-2:]))
    levels = np.floor(np.clip(np.nan_to_num(values), 0, 255) + 0.5).clip(0, 255).astype(np.uint8)
    if space == _GRAY:
        return Image.fromarray(levels.reshape(levels.shape[-2:]))
    planes = levels.reshape(levels.shape[-3:])[list(_CHANNELS[space])]
    return Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))


def _color_space(image_type: Any) -> str:
    enum = FeatureTypes_pb2.ImageFeatureType.ColorSpace
    code = image_type.colorSpace
    name = str(enum.Name(code)) if code in enum.values() else str(code)
    if name not in _PICTURES:
        raise ArtifactError(
            f"Core ML picture: got the color space {name}, needed one of {', '.join(_PICTURES)}."
        )
    return name
