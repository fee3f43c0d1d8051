"""Where an ExecuTorch file spends its time, by ETDump: milliseconds per kind of operator."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path

from executorch.devtools import Inspector
from executorch.extension.pybindings import portable_lib

from dfnet.artifact import Artifact, verify_artifact
from dfnet.signature import Feed
from dfnet.tensors import feed_tensors

_WHOLE = ("Method::execute", "DELEGATE_CALL", "Method::init", "Program::load_method")
"""Events that hold others."""


def profile(artifact: Artifact, feed: Feed, *, runs: int = 5) -> dict[str, float]:
    """Average milliseconds of one inference, by kind of operator, the largest first.

    XNNPACK's own operators are told apart; their sum is less than the latency, which also holds
    recording them. Threads are those of the runners that are open.

    Raises:
        ArtifactError: the file was altered.
    """
    verify_artifact(artifact)
    module = portable_lib._load_for_executorch(str(artifact.path), enable_etdump=True)
    for _ in range(runs):
        module.forward(feed_tensors(feed))
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "run.etdp"
        module.write_etdump_result_to_file(str(dump))
        blocks = Inspector(etdump_path=str(dump)).event_blocks
    total = Counter[str]()
    for block in blocks:
        for event in block.events:
            if event.name not in _WHOLE and event.perf_data is not None:
                total[_kind(event.name)] += sum(event.perf_data.raw) / runs
    return {kind: total[kind] for kind in sorted(total, key=lambda one: -total[one])}


def _kind(event: str) -> str:
    """``Convolution (NHWC, QC8) IGEMM`` for that with a number behind it."""
    return re.sub(r" #\d+$", "", event)
