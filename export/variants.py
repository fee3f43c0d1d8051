"""What each runtime can produce: a table that is readable without importing any SDK.

A rerun decides from this table alone, and from installed package metadata, that every file it
would build is already there; importing the SDKs to ask them would cost half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Platform = Literal["ios", "android"]
PLATFORMS: tuple[Platform, ...] = ("ios", "android")


@dataclass(frozen=True)
class Variant:
    """One file a runtime can produce, per resolution.

    ``backend`` is what computes inside the runtime (``xnnpack``, ``coreml``, ``cpu``...).
    ``python -m export --platform`` builds all of a platform's variants but those ``on_request``,
    which need their recipe named with ``--recipe``.
    """

    platform: Platform
    backend: str
    recipe: str
    on_request: bool = False


@dataclass(frozen=True)
class RuntimeRow:
    """One runtime: where its class is, what identifies its builds, and its variants.

    ``location`` is ``module:Class``, imported only to build or run something. ``distributions``
    are the PyPI distributions whose versions identify a build; ``export.build_key`` adds those
    that every build uses. ``bundles`` are the backends with which one file can hold several
    resolutions.
    """

    location: str
    distributions: tuple[str, ...]
    variants: tuple[Variant, ...]
    bundles: tuple[str, ...] = ()


STUDIED = (
    "int8-naive",
    "int8-biases",
    "int8-learned",
    "int8-finetuned",
    "int8-compensated",
    "int8-full-naive",
    "sdk-default",
)
"""Recipes that show what each correction is worth; made on request."""


APPS = {
    "ios": ("fp16-app", "w8-app", "int8-app"),
    "android": ("fp32-app", "int8-app", "int8-full-app"),
}
"""Recipes whose files take and give pictures as bytes (``export.app_io``); made on request."""


def _on_request(platform: Platform, backend: str) -> tuple[Variant, ...]:
    recipes = (*STUDIED, *APPS[platform])
    return tuple(Variant(platform, backend, recipe, on_request=True) for recipe in recipes)


SYSTEMS: dict[str, str] = {"coreml": "macOS"}
"""Backend -> the one system of a computer on which it can execute anything. Others run anywhere."""

RUNTIMES: dict[str, RuntimeRow] = {
    "coreml": RuntimeRow(
        "export.coreml:CoreML",
        ("coremltools",),
        (
            Variant("ios", "coreml", "fp32"),
            Variant("ios", "coreml", "fp16"),
            Variant("ios", "coreml", "w8"),
            Variant("ios", "coreml", "int8"),
            Variant("ios", "coreml", "int8-full"),
            *_on_request("ios", "coreml"),
        ),
        bundles=("coreml",),
    ),
    "litert": RuntimeRow(
        "export.litert:LiteRT",
        ("litert-torch", "litert-converter", "ai-edge-litert", "ai-edge-quantizer"),
        (
            Variant("android", "xnnpack", "fp32"),
            Variant("android", "xnnpack", "fp16"),
            Variant("android", "xnnpack", "int8"),
            Variant("android", "xnnpack", "int8-full"),
            Variant("android", "xnnpack", "w8a16", on_request=True),
            *_on_request("android", "xnnpack"),
        ),
        bundles=("xnnpack",),
    ),
    "executorch": RuntimeRow(
        "export.executorch:ExecuTorch",
        ("executorch",),
        (
            Variant("android", "xnnpack", "fp32"),
            Variant("android", "xnnpack", "int8"),
            Variant("android", "xnnpack", "int8-full"),
            Variant("android", "xnnpack", "fp32-unfused", on_request=True),
            *_on_request("android", "xnnpack"),
            Variant("ios", "coreml", "fp16"),
            Variant("ios", "coreml", "int8"),
            Variant("ios", "coreml", "int8-full"),
        ),
        bundles=("xnnpack",),
    ),
    "onnx": RuntimeRow(
        "export.onnx:ONNX",
        ("onnx", "onnxscript", "onnxsim", "onnxruntime"),
        (
            Variant("android", "cpu", "fp32"),
            Variant("android", "cpu", "int8"),
            Variant("android", "cpu", "int8-full"),
            Variant("android", "cpu", "fp32-unfused", on_request=True),
            *_on_request("android", "cpu"),
        ),
    ),
}
"""Runtime key -> row. The key is also the extra's name and the pytest marker."""
