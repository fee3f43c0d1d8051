"""Which network the command line means: the reference, a DFNet of your own, or a factory's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dfnet.checkpoint import Checkpoint, load_checkpoint, load_factory
from dfnet.errors import UnsupportedError

DEFAULT_CHECKPOINT = Path("data/checkpoints/reference.safetensors")


@dataclass(frozen=True)
class NetworkChoice:
    """A DFNet's ``checkpoint``, or a ``factory`` with its ``weights``; nothing is the reference.

    Raises:
        UnsupportedError: both a checkpoint and a factory, or weights without a factory.
    """

    checkpoint: Path | None = None
    factory: str | None = None
    weights: Path | None = None

    def __post_init__(self) -> None:
        if self.factory is None and self.weights is not None:
            raise UnsupportedError(
                f"Weights {self.weights}: got no --factory to load them into. Add --factory, or "
                "give a DFNet with --checkpoint."
            )
        if self.factory is not None and self.checkpoint is not None:
            raise UnsupportedError(
                f"Network: got --checkpoint {self.checkpoint} and --factory {self.factory}, "
                "needed one of the two. Give a factory's weights with --weights."
            )

    def load(self) -> Checkpoint:
        """Raises CheckpointError when the network cannot be loaded."""
        if self.factory is None:
            return load_checkpoint(self.checkpoint or DEFAULT_CHECKPOINT)
        return load_factory(self.factory, self.weights)
