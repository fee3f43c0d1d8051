"""Whether a saved Core ML package is what its program asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dfnet.errors import UnsupportedError
from dfnet.manifest import TensorSpec
from dfnet.profiles import Precision
from export.convolutions import ConvolutionCount
from export.coreml_structure import Structure


@dataclass(frozen=True)
class Needed:
    """What the program, not the package, says: its signature, number formats and convolutions."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    specification_version: int
    arithmetic: str
    precision: Precision
    convolutions: ConvolutionCount


def check_structure(structure: Structure, needed: Needed) -> None:
    """Compares a package with its program.

    Raises:
        UnsupportedError: lists everything the conversion lost or changed.
    """
    faults = [*_differences(structure, needed), *structure.faults]
    if faults:
        raise UnsupportedError(
            f"Core ML package, {needed.precision}: conversion changed the network: "
            f"{'; '.join(faults)}. Choose another recipe or another runtime."
        )


def _differences(structure: Structure, needed: Needed) -> Iterator[str]:
    got = structure.convolutions
    quantized_weights = {
        Precision.W8: needed.convolutions.total,
        Precision.W8A8: needed.convolutions.quantized,
    }.get(needed.precision, 0)
    quantized_inputs = needed.convolutions.quantized if needed.precision is Precision.W8A8 else 0
    rows: tuple[tuple[str, object, object], ...] = (
        ("inputs", structure.inputs, needed.inputs),
        ("outputs", structure.outputs, needed.outputs),
        ("specification", structure.specification_version, needed.specification_version),
        ("convolutions", got.total, needed.convolutions.total),
        ("convolutions with int8 weights", got.int8_weights, quantized_weights),
        ("convolutions with int8 inputs", got.int8_inputs, quantized_inputs),
        ("convolution types", got.dtypes, {needed.arithmetic: needed.convolutions.total}),
    )
    for what, have, want in rows:
        if have != want:
            yield f"{what} got {have}, needed {want}"
    if needed.precision is Precision.W8A8 and not needed.convolutions.quantized:
        yield "got no quantized convolution in the program, needed at least one"
    if not needed.convolutions.total:
        yield "got no convolution, needed at least one"
