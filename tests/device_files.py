"""Results as runners on devices write them, for tests to spoil."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dfnet.artifact import Artifact


def a_repeat(**changes: Any) -> dict[str, Any]:
    """A cold repeat that satisfies every rule: 50 runs of 20 to 20.4 ms."""
    return {
        "load_ms": 31.5,
        "first_ms": 25.0,
        "warmup_ms": [21.0] * 5,
        "samples_ms": [20.0, 20.4] * 25,
        "thermal_before": "nominal",
        "thermal_after": "nominal",
        "battery_percent": 85.0,
        "charging": True,
        "low_power_mode": False,
    } | changes


def a_result(artifact: Artifact, **changes: Any) -> dict[str, Any]:
    """A VALID result of an iPhone for ``artifact``."""
    return {
        "protocol": 1,
        "artifact_sha256": artifact.manifest.artifact_sha256,
        "device": a_device(),
        "runner": {"name": "dfnet-latency-coreml", "version": "1.0", "abi": "arm64", "libc": None},
        "accelerator": an_accelerator(),
        "threads": None,
        "cold": "load",
        "compile_ms": 412.0,
        "repeats": [a_repeat() for _ in range(3)],
        "peak_memory_mb": None,
        "doubts": [],
        "error": None,
    } | changes


def a_device(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "device",
        "name": "iPhone 14 Pro",
        "model": "iPhone15,2",
        "os": "iOS",
        "os_version": "17.5.1 (21F90)",
        "soc": None,
    } | changes


def an_accelerator(**changes: Any) -> dict[str, Any]:
    return {
        "asked": ["cpu", "gpu", "neural_engine"],
        "ran": ["cpu", "neural_engine"],
        "evidence": "plan",
        "placement": {"neural_engine": {"conv": 47}, "cpu": {"cast": 7}},
    } | changes


def write(path: Path, value: object) -> Path:
    """``value`` as JSON; NaN and infinity as Python and many others write them."""
    path.write_text(json.dumps(value), encoding="utf-8")
    return path
