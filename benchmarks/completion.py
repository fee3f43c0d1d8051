"""Shell completion: ``eval "$(.venv/bin/python -m benchmarks.completion bash)"``.

A shell completes words after the name of a program, and ours is ``python`` for all of them. So the
script defines a function of its own, ``dfm``: ``dfm export --platform ios`` is
``python -m export --platform ios``, and completes.
"""

from __future__ import annotations

import os
import shlex
import sys

import click
from click.shell_completion import get_completion_class, shell_complete

from android_harness.__main__ import main as android_harness
from benchmarks.__main__ import main as benchmarks
from dfnet.__main__ import main as dfnet
from dfnet.console import run_command
from export.__main__ import main as export
from quantize.__main__ import main as quantize

NAME = "dfm"
VARIABLE = "_DFM_COMPLETE"

PROGRAMS = click.Group(
    NAME,
    commands={
        "android_harness": android_harness,
        "benchmarks": benchmarks,
        "dfnet": dfnet,
        "export": export,
        "quantize": quantize,
    },
)
"""What completes after ``dfm``."""

_FUNCTIONS = {
    "bash": '{name}() {{ {python} -m "$@"; }}',
    "zsh": '{name}() {{ {python} -m "$@"; }}',
    "fish": "function {name}; {python} -m $argv; end",
}
_CALLED = {"bash": " $1)", "zsh": f" {NAME})", "fish": f" {NAME})"}
"""How click's scripts run the program that completes: by its name, which a function cannot bear."""


@click.command("benchmarks.completion")
@click.argument("shell", type=click.Choice(list(_FUNCTIONS)))
def main(shell: str) -> None:
    """Print the script that completes our commands after `dfm` in SHELL.

    For bash: eval "$(.venv/bin/python -m benchmarks.completion bash)"
    """
    click.echo(script(shell, shlex.quote(sys.executable)))


def script(shell: str, python: str) -> str:
    """The function and its completion, for the interpreter ``python``."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"Shell {shell}: click completes none of that name.")
    source = kind(PROGRAMS, {}, NAME, VARIABLE).source()
    completed = source.replace(_CALLED[shell], f" {python} -m benchmarks.completion)")
    completed = completed.replace(f"$+commands[{NAME}]", f"$+functions[{NAME}]")
    return f"{_FUNCTIONS[shell].format(name=NAME, python=python)}\n{completed}"


if __name__ == "__main__":
    if VARIABLE in os.environ:
        sys.exit(shell_complete(PROGRAMS, {}, NAME, VARIABLE, os.environ[VARIABLE]))
    run_command(main)
