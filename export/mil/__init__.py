"""A reference evaluator for Core ML packages: the file that ships, executed on any system.

Core ML runs on Apple systems only. This walks the saved program instead, operation by operation,
with its compressed weights and its declared types, in torch on the CPU. It is an oracle for
correctness: it says nothing about speed, and its numbers are never a device's.

    from pathlib import Path
    from export.mil import evaluate

    outputs = evaluate(Path("model.mlpackage"), {"x": array})

``Evaluator`` keeps a package loaded, ``Arithmetic`` chooses among the legal ways to round, and
``Package`` reads one without running it. Needs torch, numpy, pillow, protobuf, and an installed
coremltools for its message definitions (which is not itself imported).
"""

from __future__ import annotations

from export.mil.arithmetic import Arithmetic
from export.mil.package import Package
from export.mil.predict import Evaluator, evaluate

__all__ = ["Arithmetic", "Evaluator", "Package", "evaluate"]
