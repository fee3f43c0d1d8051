"""Several Core ML packages of one network as one multifunction package (iOS 18, macOS 15)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import coremltools as ct

from export.coreml_package import normalise_package
from export.coreml_structure import model_path

_ONLY = "main"
"""What the function of a package of one is called."""


def merge_packages(packages: Mapping[str, Path], target: Path) -> None:
    """Saves the functions of ``packages`` under their keys; the first is the default one. Equal
    weights are stored once."""
    descriptor = ct.utils.MultiFunctionDescriptor()
    for name, package in packages.items():
        descriptor.add_function(str(package), src_function_name=_ONLY, target_function_name=name)
    descriptor.default_function_name = next(iter(packages))
    ct.utils.save_multifunction(descriptor, str(target))
    normalise_package(target)


def weight_bytes(package: Path) -> int:
    """Size of the package's weights file."""
    return (model_path(package).parent / "weights" / "weight.bin").stat().st_size
