"""What a golden is: a tiny Core ML package of our own, with inputs, that pins one behaviour.

Goldens are built with coremltools' MIL builder on any system. A Mac records what Core ML computes
from them (``export.mil.record``); tests evaluate them everywhere. coremltools is imported only
when a package is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Inputs = dict[str, Array]
"""By name: arrays of the declared shapes; a picture is uint8, HWC in RGB order."""


class Numbers(StrEnum):
    """What a golden's outputs are, and so how closely executions must agree."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    """Float16 inside; the outputs are float32."""
    CODES = "codes"
    """Whole numbers that are equal or wrong."""
    PICTURE = "picture"


@dataclass(frozen=True)
class Golden:
    """One package. ``pins`` says what it would show if it were otherwise.

    ``write`` saves the package into a folder that does not exist yet, the same bytes each time.
    ``function`` names the one of several that runs.
    """

    name: str
    pins: str
    numbers: Numbers
    write: Callable[[Path], None]
    inputs: Callable[[], Inputs]
    function: str | None = None


Body = Callable[..., Sequence[Any]]
"""``body(mb, **inputs)`` -> outputs, with coremltools' MIL builder ``mb``. Outputs are named."""


def program(
    body: Body, shapes: Mapping[str, Sequence[int]], *, target: str = "iOS17"
) -> Callable[[Path], None]:
    """Saves the program that ``body`` builds; its inputs are float32 of these shapes."""

    def write(package: Path) -> None:
        import coremltools as ct

        _save(_build(body, shapes, target), package, getattr(ct.target, target))

    return write


def picture_program(
    body: Body, shapes: Mapping[str, Sequence[int]], outputs: Mapping[str, str]
) -> Callable[[Path], None]:
    """As ``program``, with RGB pictures as inputs; ``outputs`` maps all of them to RGB or BGR."""

    def write(package: Path) -> None:
        import coremltools as ct

        layout = ct.colorlayout
        built = _build(body, shapes, "iOS17")
        # ct.convert ignores `outputs` of a program that is already MIL.
        built.functions["main"].set_output_types(
            [ct.ImageType(color_layout=getattr(layout, order)) for order in outputs.values()]
        )
        pictures = [
            ct.ImageType(name=name, shape=tuple(shape), color_layout=layout.RGB)
            for name, shape in shapes.items()
        ]
        _save(built, package, ct.target.iOS17, inputs=pictures)

    return write


def several_functions(
    bodies: Mapping[str, Body], shapes: Mapping[str, Sequence[int]], *, default: str
) -> Callable[[Path], None]:
    """Saves one package with a function per body; all take the same inputs."""

    def write(package: Path) -> None:
        import tempfile

        from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction

        from export.coreml_package import normalise_package

        descriptor = MultiFunctionDescriptor()
        with tempfile.TemporaryDirectory() as scratch:
            for name, body in bodies.items():
                single = Path(scratch) / f"{name}.mlpackage"
                program(body, shapes, target="iOS18")(single)
                descriptor.add_function(
                    str(single), src_function_name="main", target_function_name=name
                )
            descriptor.default_function_name = default
            save_multifunction(descriptor, str(package))
        normalise_package(package)

    return write


def _build(body: Body, shapes: Mapping[str, Sequence[int]], target: str) -> Any:
    import coremltools as ct
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Function, Program

    # Names of constants count up from here; a package must not depend on those built before it.
    Builder.name_count.clear()
    placeholders = {name: Builder.placeholder(shape=tuple(shape)) for name, shape in shapes.items()}
    built = Program()
    with Function(placeholders, getattr(ct.target, target)) as function:
        function.set_outputs(list(body(Builder, **function.inputs)))
    built.add_function("main", function)
    return built


def _save(built: Any, package: Path, target: Any, **features: Any) -> None:
    import coremltools as ct

    from export.coreml_package import normalise_package

    model = ct.convert(
        built,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        compute_precision=ct.precision.FLOAT32,
        # No optimisation: the file holds the operations as they are written down.
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
        **features,
    )
    model.save(str(package))
    normalise_package(package)


def eighths(seed: int, *shape: int, limit: int = 32) -> Array:
    """Seeded float32 multiples of 1/8 below ``limit`` / 8 in magnitude: exact in float16, the same
    on every system."""
    whole = np.random.default_rng(seed).integers(-limit, limit, shape)
    return (whole / 8).astype(np.float32)


def counted(*shape: int) -> Array:
    """0, 1, 2, ...: shows where each value went."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
