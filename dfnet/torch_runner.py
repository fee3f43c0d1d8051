"""Running a torch module as a runner like any other."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import torch
from torch import nn

from dfnet.runner import Device, Output, Timings, time_calls
from dfnet.signature import OUTPUT, Feed
from dfnet.tensors import feed_tensors


class TorchRunner:
    """Runs a torch module in eager mode on the host: the reference of every comparison."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.device = Device("host", "torch eager, CPU")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def infer(self, feed: Feed) -> Output:
        with torch.no_grad():
            return {OUTPUT: self._network(*feed_tensors(feed)).float().numpy()}

    def time(self, feed: Feed, *, warmup: int, runs: int) -> Timings:
        tensors = feed_tensors(feed)
        with torch.no_grad():
            return time_calls(
                lambda: self._network(*tensors),
                warmup=warmup,
                runs=runs,
                load_ms=0.0,
                accelerator="torch CPU",
            )
