"""Damaged and hostile packages: one clear error each, and nothing read outside of the package."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfnet.errors import ArtifactError, DFNetError, UnsupportedError
from export.mil import Package, evaluate
from export.mil.protobuf import Model_pb2

from mil_packages import MODEL, small_convolution, write_manifest, write_package

INPUT = np.ones((1, 2, 4, 4), np.float32)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path, small_convolution())


def model_path(package: Path) -> Path:
    return package / "Data" / MODEL


def weights(package: Path) -> Path:
    return model_path(package).parent / "weights" / "weight.bin"


def edit(package: Path, change: Callable[[Any], None]) -> None:
    model = Model_pb2.Model()
    model.ParseFromString(model_path(package).read_bytes())
    change(model)
    model_path(package).write_bytes(model.SerializeToString())


def block(model: Any) -> Any:
    return model.mlProgram.functions["main"].block_specializations["CoreML7"]


def operation(model: Any, name: str) -> Any:
    return next(o for o in block(model).operations if o.outputs[0].name == name)


def test_an_intact_package_runs(package: Path) -> None:
    output = evaluate(package, {"x": INPUT})["y"]
    assert np.asarray(output).shape == (1, 3, 4, 4)
    assert np.asarray(output).max() > 0


def overwrite(path: Path, offset: int, data: bytes) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(data)] = data
    path.write_bytes(bytes(raw))


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def declare_shape(model: Any, name: str) -> None:
    operation(model, name).outputs[0].type.tensorType.dimensions[1].constant.size = 5


def declare_dtype(model: Any, name: str, code: int) -> None:
    operation(model, name).outputs[0].type.tensorType.dataType = code


def blob_value(model: Any) -> Any:
    return operation(model, "weight").attributes["val"]


def hostile_manifest(path: object) -> Callable[[Path], object]:
    return lambda package: write_manifest(package, path)


def weights_in(file: str) -> Callable[[Path], object]:
    def change(model: Any) -> None:
        blob_value(model).blobFileValue.fileName = file

    return lambda package: edit(package, change)


def link_weights(package: Path) -> None:
    outside = package.parent / "outside.bin"
    outside.write_bytes(weights(package).read_bytes())
    weights(package).unlink()
    weights(package).symlink_to(outside)


def rename_binding(model: Any) -> None:
    operation(model, "y").inputs["x"].arguments[0].name = "nobody"


def rename_parameter(model: Any) -> None:
    operation(model, "c").inputs["rotation"].arguments.add().name = "bias"


def drop_parameter(model: Any) -> None:
    del operation(model, "c").inputs["weight"]


def unknown_operation(model: Any) -> None:
    operation(model, "y").type = "warp_drive"


def unknown_padding(model: Any) -> None:
    operation(model, "pad_type").attributes["val"].immediateValue.tensor.strings.values[0] = "wrap"


def no_specialization(model: Any) -> None:
    model.mlProgram.functions["main"].opset = "CoreML99"


def short_constant(model: Any) -> None:
    del operation(model, "bias").attributes["val"].immediateValue.tensor.floats.values[2:]


def no_constant(model: Any) -> None:
    operation(model, "bias").attributes["val"].Clear()


def huge_constant(model: Any) -> None:
    value = operation(model, "bias").attributes["val"]
    for message in (value.type, operation(model, "bias").outputs[0].type):
        message.tensorType.dimensions[0].constant.size = 1 << 50
    del value.immediateValue.tensor.floats.values[1:]


def no_functions(model: Any) -> None:
    model.mlProgram.functions.clear()


def neural_network(model: Any) -> None:
    model.neuralNetwork.SetInParent()


def undeclared_output(model: Any) -> None:
    model.description.output[0].name = "z"


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no package": (lambda p: p.rename(p.with_name("gone")), "needed a Manifest.json"),
    "no manifest": (lambda p: (p / "Manifest.json").unlink(), "needed a Manifest.json"),
    "manifest is no JSON": (
        lambda p: (p / "Manifest.json").write_bytes(b"\xff{"),
        "needed a Manifest.json",
    ),
    "manifest is a list": (lambda p: (p / "Manifest.json").write_text("[1]"), "names its root"),
    "manifest without a root": (
        lambda p: (p / "Manifest.json").write_text(json.dumps({"itemInfoEntries": {}})),
        "names its root",
    ),
    "manifest points above": (hostile_manifest("../../outside.mlmodel"), "inside of|no file"),
    "manifest points to /etc": (hostile_manifest("/etc/passwd"), "inside of"),
    "manifest names a folder": (hostile_manifest("com.apple.CoreML"), "inside of"),
    "manifest with a null byte": (hostile_manifest("a\0b"), "no file"),
    "manifest of a number": (hostile_manifest(7), "no file"),
    "model gone": (lambda p: model_path(p).unlink(), "no file"),
    "model truncated": (lambda p: truncate(model_path(p), 100), "whole model"),
    "model empty": (lambda p: truncate(model_path(p), 0), "type none"),
    "model is noise": (lambda p: model_path(p).write_bytes(b"\xff" * 200), "whole model"),
    "another model type": (lambda p: edit(p, neural_network), "needed an ML program"),
    "no functions": (lambda p: edit(p, no_functions), "type none|no functions"),
    "no body for the opset": (lambda p: edit(p, no_specialization), "CoreML99"),
    "weights gone": (lambda p: weights(p).unlink(), "no file"),
    "weights empty": (lambda p: truncate(weights(p), 0), "whole weight file"),
    "weights truncated": (lambda p: truncate(weights(p), 140), "bytes from 128 of 140"),
    "weight header truncated": (lambda p: truncate(weights(p), 70), "no weight at byte 64"),
    "storage version": (lambda p: overwrite(weights(p), 4, struct.pack("<I", 1)), "version 1"),
    "sentinel flipped": (lambda p: overwrite(weights(p), 64, b"\x00"), "no weight record"),
    "blob code unknown": (lambda p: overwrite(weights(p), 68, struct.pack("<I", 77)), "code 77"),
    "blob of another type": (lambda p: overwrite(weights(p), 68, struct.pack("<I", 1)), "fp16"),
    "blob too short": (lambda p: overwrite(weights(p), 72, struct.pack("<Q", 8)), "got 8 bytes"),
    "blob starts beyond": (
        lambda p: overwrite(weights(p), 80, struct.pack("<Q", 1 << 40)),
        "needed 216",
    ),
    "offset beyond": (
        lambda p: edit(p, lambda m: setattr(blob_value(m).blobFileValue, "offset", 1 << 30)),
        "no weight at byte",
    ),
    "weights above": (weights_in("@model_path/../../../secret"), "inside of|no file"),
    "weights absolute": (weights_in("/etc/passwd"), "@model_path"),
    "weights absolute inside": (weights_in("@model_path//etc/passwd"), "inside of"),
    "weights linked outside": (link_weights, "inside of"),
    "shape declared wrong": (lambda p: edit(p, lambda m: declare_shape(m, "c")), r"\(1, 5, 4, 4"),
    "dtype declared int": (
        lambda p: edit(p, lambda m: declare_dtype(m, "y", 23)),
        "declares int32",
    ),
    "dtype code unknown": (lambda p: edit(p, lambda m: declare_dtype(m, "y", 99)), "code 99"),
    "dtype code bfloat16": (lambda p: edit(p, lambda m: declare_dtype(m, "y", 13)), "code 13"),
    "value of a name nobody made": (lambda p: edit(p, rename_binding), "'nobody'"),
    "unknown parameter": (lambda p: edit(p, rename_parameter), "rotation"),
    "missing parameter": (lambda p: edit(p, drop_parameter), "weight"),
    "unknown operation": (lambda p: edit(p, unknown_operation), "warp_drive"),
    "unknown choice": (lambda p: edit(p, unknown_padding), "'wrap'"),
    "constant too short": (lambda p: edit(p, short_constant), "got 2 values, needed 3"),
    "constant without a value": (lambda p: edit(p, no_constant), "no type"),
    "constant of a petabyte": (lambda p: edit(p, huge_constant), "does not fit into memory"),
    "output nobody makes": (lambda p: edit(p, undeclared_output), "Core ML output z"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_package_is_refused(package: Path, damage: str) -> None:
    change, message = DAMAGES[damage]
    change(package)
    with pytest.raises((ArtifactError, UnsupportedError), match=message):
        evaluate(package, {"x": INPUT})


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_never_crash(package: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = [model_path(package), weights(package), package / "Manifest.json"][seed % 3]
    raw = bytearray(path.read_bytes())
    for position in rng.integers(0, len(raw), 8):
        raw[position] ^= int(rng.integers(1, 256))
    path.write_bytes(bytes(raw))
    message = ""
    try:
        evaluate(package, {"x": INPUT})
    except DFNetError as error:
        message = str(error)
    assert "\n" not in message


def test_nothing_outside_is_opened(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = package.parent / "secret.mlmodel"
    secret.write_bytes(model_path(package).read_bytes())
    write_manifest(package, "../../secret.mlmodel")
    opened: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: opened.append(p) or read_bytes(p))  # type: ignore[func-returns-value]
    with pytest.raises(ArtifactError, match="inside of"):
        Package(package)
    assert opened == []


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "got none, needed x"),
        ({"x": INPUT, "z": INPUT}, "got x, z, needed x"),
        ({"x": INPUT[:, :1]}, r"got shape \(1, 1, 4, 4\), needed \(1, 2, 4, 4\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    package: Path, inputs: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedError, match=message):
        evaluate(package, inputs)


def test_an_unknown_function_lists_those_there_are(package: Path) -> None:
    with pytest.raises(UnsupportedError, match="got the function 'other', needed one of main"):
        Package(package).function("other")
