"""What every command shares: consoles, progress, and errors turned into exit codes.

Results go to standard output, everything else to standard error. Off a terminal nothing is
animated or coloured: each step is one plain line.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self, TextIO, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars

from dfnet.errors import DFNetError

EXIT_OK = 0
EXIT_MISSED_BAR = 1
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

PLAIN_WIDTH = 160
"""Columns of a table written to a file or a pipe, where there is no terminal to ask."""

_Function = TypeVar("_Function", bound=Callable[..., object])


def results_console() -> Console:
    """Where a command prints what it was asked for: standard output."""
    return _console(sys.stdout)


def progress_console() -> Console:
    """Where a command prints progress and errors: standard error."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    stream = undisturbed(stream)
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False, soft_wrap=not stream.isatty())


def undisturbed(stream: TextIO) -> TextIO:
    """A stream to the same place that ``export.sdk_log`` cannot redirect.

    It writes to a duplicate of the descriptor. A stream without one (a test's buffer) is not
    redirected in the first place.
    """
    try:
        return _Duplicate(os.dup(stream.fileno()))
    except (io.UnsupportedOperation, ValueError):
        return stream


class _Duplicate(io.StringIO):
    """Text written straight to a descriptor of its own, closed when it is no longer used."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, text: str) -> int:
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(self._descriptor, data) :]
        return len(text)


@dataclass
class Step:
    """One step of a long command while it runs."""

    outcome: str = ""


class Progress:
    """The steps of a long command, shown on standard error.

    On a terminal a spinner, a bar when ``total`` steps are known, and the elapsed time; otherwise
    one line per finished step. Use it as a context manager.
    """

    def __init__(self, *, total: int | None = None, console: Console | None = None) -> None:
        self._console = console or progress_console()
        self._total = total
        self._done = 0
        self._text = ""
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bars.add_task("", total=total)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def expect(self, total: int) -> None:
        """Sets how many steps there will be, once that is known."""
        self._total = total
        self._bars.update(self._task, total=total)

    def say(self, sentence: str) -> None:
        """Prints one line that stays."""
        self._console.print(sentence, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str, *, counts: bool = True) -> Iterator[Step]:
        """Shows ``text`` while the block runs; a block that raises is not reported as done.

        With ``counts`` it is one of the total; without, a part of the step it stands in. The
        block may set the ``outcome`` that the line of the finished step ends with.
        """
        before = self._text
        self._describe(text)
        start = time.perf_counter()
        step = Step()
        yield step
        seconds = time.perf_counter() - start
        if counts:
            self._done += 1
            self._bars.advance(self._task)
        count = f"[{self._done}/{self._total}] " if counts and self._total else ""
        outcome = f": {step.outcome}" if step.outcome else ""
        self.say(f"{count}{text}{outcome} ({seconds:.1f} s)")
        self._describe(before)

    def count(self, done: int, total: int) -> None:
        """Shows, on a terminal, how far the step that runs has come."""
        self._bars.update(self._task, description=f"{self._text} ({done} of {total})")

    def _describe(self, text: str) -> None:
        self._text = text
        self._bars.update(self._task, description=text)


def network_options(function: _Function) -> _Function:
    """Adds the options that say which network a click command means, and what calibrates it."""
    path = click.Path(path_type=Path)
    options = (
        click.option(
            "--checkpoint",
            type=path,
            help="A DFNet's .safetensors. Default: data/checkpoints/reference.safetensors.",
        ),
        click.option(
            "--factory", help="package.module:function that returns a network of your own."
        ),
        click.option("--weights", type=path, help="Weights (.safetensors) for --factory."),
        click.option(
            "--calibration",
            type=path,
            default=Path("data/captures/calibration"),
            show_default=True,
            help="Captures that set the int8 ranges.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def examples(*lines: str) -> str:
    """The end of a command's help: command lines that work, as they are typed."""
    # A paragraph that starts with \b keeps its lines.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def debug_option(function: _Function) -> _Function:
    """Adds ``--debug`` to a click command; ``run_command`` then shows tracebacks."""
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        help="Show the traceback of an error.",
        callback=lambda context, _, value: context.meta.update(debug=value),
    )(function)


def run_command(command: click.Command, arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a click command and exits with its code.

    0 when all is well, 1 when a bar was missed (the command returns that), 2 for an error: one
    line and no traceback, unless ``--debug``. 130 after Ctrl-C, 143 when terminated.
    """
    signal.signal(signal.SIGTERM, _terminate)
    boundary = _Boundary()
    with boundary:
        name = f"python -m {command.name}"
        given = sys.argv[1:] if arguments is None else list(arguments)
        with command.make_context(name, given) as context:
            boundary.meta = context.meta
            raise SystemExit(command.invoke(context) or EXIT_OK)
    raise SystemExit(EXIT_ERROR)


def _terminate(number: int, frame: FrameType | None) -> None:
    # Raising lets every `with` and `finally` tidy up; the default would leave scratch folders.
    raise SystemExit(EXIT_TERMINATED)


class _Boundary:
    """Turns whatever leaves a command into one line on standard error and an exit code."""

    def __init__(self) -> None:
        self.meta: dict[str, object] = {}

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, SystemExit):
            return
        if isinstance(error, click.exceptions.Exit):
            raise SystemExit(error.exit_code)
        if self.meta.get("debug"):
            traceback.print_exception(error)
        line, code = _line_and_code(error)
        progress_console().print(line, style="red", markup=False, soft_wrap=True)
        raise SystemExit(code) from None


def _line_and_code(error: BaseException) -> tuple[str, int]:
    notes = " ".join(getattr(error, "__notes__", ()))
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "Interrupted; nothing half-written was kept.", EXIT_INTERRUPTED
    if isinstance(error, DFNetError):
        return f"{error} {notes}".rstrip(), EXIT_ERROR
    if isinstance(error, click.ClickException):
        return f"{error.format_message()} See --help.", EXIT_ERROR
    text = f"Unexpected {type(error).__name__}: {error} {notes}".rstrip()
    return f"{text} Run again with --debug for the traceback.", EXIT_ERROR
