"""This project's log records: to the console for ``--verbose``, and to a file beside results."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfnet.console import undisturbed

_OUR_LOGGERS = ("dfnet", "quantize", "export", "benchmarks", "android_harness")


def show_log_records() -> None:
    """Shows this project's log records on standard error, for ``--verbose``."""
    handler = logging.StreamHandler(undisturbed(sys.stderr))
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    for name in _OUR_LOGGERS:
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO)


@contextmanager
def log_records_to(file: Path) -> Iterator[None]:
    """Appends this project's log records to ``file`` while the block runs.

    Meanwhile they do not reach the root logger: some SDKs give it a handler on the console.
    """
    handler = _LogFile(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in _OUR_LOGGERS]
    propagated = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, before in zip(loggers, propagated, strict=True):
            logger.removeHandler(handler)
            logger.propagate = before
        handler.close()


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A full disk is reported by the file that does not fit, not by its log."""
