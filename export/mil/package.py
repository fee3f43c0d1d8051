"""A saved Core ML package: its manifest, its model, its functions and their descriptions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy.typing as npt
from google.protobuf.message import DecodeError

from dfnet.errors import ArtifactError, UnsupportedError
from export.mil.blobs import BlobFile
from export.mil.dtypes import DType
from export.mil.program import Function, read_function
from export.mil.protobuf import Model_pb2

_MODEL_PATH = "@model_path/"
"""How a program names the folder of its own model file."""


@dataclass(frozen=True)
class Description:
    """The features of one function, as protobuf ``FeatureDescription`` messages by name."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]
    states: dict[str, Any]


class Package:
    """An ``.mlpackage`` folder (or a bare ``.mlmodel`` file) holding an ML program.

    Nothing outside of the folder is read, whatever the files inside say.

    Raises:
        ArtifactError: a part is missing, truncated, or points outside of the package.
        UnsupportedError: the model is not an ML program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._model_file = model_file(path)
        self.model = _parse(self._model_file)
        kind = self.model.WhichOneof("Type")
        if kind != "mlProgram":
            raise UnsupportedError(
                f"Core ML model {path}: got a model of type {kind or 'none'}, needed an ML program."
                " Convert it with convert_to='mlprogram'."
            )
        if not self.model.mlProgram.functions:
            raise ArtifactError(
                f"Core ML model {path}: got no functions, needed one. Export again."
            )
        self._blobs: dict[Path, BlobFile] = {}

    @property
    def functions(self) -> tuple[str, ...]:
        """Names of the program's functions."""
        return tuple(sorted(self.model.mlProgram.functions))

    @cached_property
    def default_function(self) -> str:
        """The function that runs when none is named."""
        description = self.model.description
        return str(description.defaultFunctionName) if description.functions else "main"

    def function(self, name: str | None = None) -> Function:
        """The program's function ``name``, or the default one.

        Raises:
            UnsupportedError: there is no such function; lists those there are.
            ArtifactError: it cannot be read.
        """
        key = self._existing(name)
        return read_function(key, self.model.mlProgram.functions[key], self._read_blob)

    def description(self, name: str | None = None) -> Description:
        """What the package says of a function's inputs and outputs; raises as ``function``."""
        key, description = self._existing(name), self.model.description
        described = {one.name: one for one in description.functions} or {"main": description}
        if key not in described:
            raise ArtifactError(
                f"Core ML model {self.path}: got no description of the function {key!r}, needed "
                "one. Export again."
            )
        features = described[key]
        return Description(
            inputs={f.name: f for f in features.input},
            outputs={f.name: f for f in features.output},
            states={f.name: f for f in features.state},
        )

    def _existing(self, name: str | None) -> str:
        key = name or self.default_function
        if key not in self.functions:
            raise UnsupportedError(
                f"Core ML model {self.path}: got the function {key!r}, needed one of "
                f"{', '.join(self.functions)}."
            )
        return key

    def _read_blob(self, file: str, offset: int, dtype: DType, count: int) -> npt.NDArray[Any]:
        folder = self._model_file.parent
        if not file.startswith(_MODEL_PATH):
            raise ArtifactError(
                f"Core ML model {self.path}: got weights in {file!r}, needed a path that starts "
                f"with {_MODEL_PATH}. Export again."
            )
        path = inside(folder, file.removeprefix(_MODEL_PATH))
        if path not in self._blobs:
            self._blobs[path] = BlobFile(path)
        return self._blobs[path].read(offset, dtype, count)


def model_file(package: Path) -> Path:
    """Where ``Manifest.json`` says the package keeps its model; a plain file is its own model.

    Raises:
        ArtifactError: no package, no manifest, or one that names no file inside of the package.
    """
    if package.is_file():
        return package
    try:
        manifest = json.loads((package / "Manifest.json").read_text(encoding="utf-8"))
        root = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error) if isinstance(error, OSError) else f"{type(error).__name__} {error}"
        raise ArtifactError(
            f"Core ML package {package}: got {reason}, needed a Manifest.json that names its root "
            "model. Export again."
        ) from error
    return inside(package / "Data", str(root))


def inside(folder: Path, relative: str) -> Path:
    """``folder / relative``, resolved.

    Raises:
        ArtifactError: that is no file inside of ``folder``, links followed.
    """
    wanted = PurePosixPath(relative)
    try:
        root = folder.resolve(strict=True)
        path = (root / wanted).resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"Core ML package: got no file {relative!r} in {folder}, needed one. Export again."
        ) from error
    if wanted.is_absolute() or not path.is_relative_to(root) or not path.is_file():
        raise ArtifactError(
            f"Core ML package: got the path {relative!r}, needed a file inside of {folder}. Do not "
            "trust this package."
        )
    return path


def _parse(path: Path) -> Any:
    model = Model_pb2.Model()
    try:
        model.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise ArtifactError(
            f"Core ML model {path}: got {error}, needed a whole model. Export again."
        ) from error
    return model
