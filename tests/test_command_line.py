"""What all commands share: help without loading an SDK, and completion in a shell."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys

import click
import pytest

from benchmarks.completion import PROGRAMS

from shown_commands import ROOT, wrong_with

SINGLE_COMMANDS = (
    "dfnet.train",
    "dfnet.stereo",
    "export.coreml_bisect",
    "export.coreml_calibrate",
    "export.coreml_measure",
    "export.mil.record",
    "export.photo.__main__",
    "benchmarks.peers.__main__",
)
HEAVY = "torch coremltools executorch litert_torch ai_edge_litert onnx onnxruntime matplotlib"


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, click.Command]]:
    """Every command under ``group`` with the words that call it."""
    found: list[tuple[str, click.Command]] = []
    for name, command in group.commands.items():
        words = (*path, name)
        found.append((" ".join(words), command))
        if isinstance(command, click.Group):
            found += commands(command, words)
    return found


@pytest.mark.parametrize(("name", "command"), commands(PROGRAMS), ids=lambda one: str(one)[:40])
def test_every_command_and_option_says_what_it_is_for(name: str, command: click.Command) -> None:
    """An option whose default is shown may leave it at that."""
    assert command.get_short_help_str(), name
    if not command.add_help_option:
        return  # passes everything on to a program with a help of its own
    options = [one for one in command.params if isinstance(one, click.Option)]
    silent = [one.opts[0] for one in options if not (one.help or one.show_default)]
    assert silent == [], name


@pytest.mark.parametrize(("name", "command"), commands(PROGRAMS), ids=lambda one: str(one)[:40])
def test_help_ends_with_examples_that_can_be_typed(name: str, command: click.Command) -> None:
    if not command.add_help_option or (isinstance(command, click.Group) and not command.params):
        return  # the commands of a group, or the program that it passes everything on to, show them
    lines = [line.strip() for line in (command.epilog or "").splitlines()]
    shown = [line for line in lines if line.startswith("python -m")]
    assert shown, name
    assert {line: wrong_with(line) for line in shown if wrong_with(line)} == {}


@pytest.mark.parametrize("module", SINGLE_COMMANDS)
def test_a_module_of_one_command_is_called_by_its_own_name(module: str) -> None:
    """Its help and its errors name what was typed, not the function behind it."""
    assert importlib.import_module(module).main.name == module.removesuffix(".__main__")


def test_no_help_loads_an_sdk() -> None:
    script = (
        "import sys, click\n"
        "from benchmarks.completion import PROGRAMS\n"
        "def walk(group, context):\n"
        "    for name, command in group.commands.items():\n"
        "        below = click.Context(command, info_name=name, parent=context)\n"
        "        assert command.get_help(below)\n"
        "        if isinstance(command, click.Group): walk(command, below)\n"
        "walk(PROGRAMS, click.Context(PROGRAMS))\n"
        f"print(*sorted(set({HEAVY!r}.split()) & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["dfm", "exp"], ["export"]),
        (["dfm", "export", "--plat"], ["--platform"]),
        (["dfm", "export", "doc"], ["doctor"]),
        (["dfm", "benchmarks", "latency", "--protocol", "q"], ["quick"]),
        (["dfm", "export", "--no-such"], []),
    ],
)
def test_bash_completes(words: list[str], expected: list[str]) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    typed = " ".join(words)
    script = (
        f'eval "$({sys.executable} -m benchmarks.completion bash)"\n'
        f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}\n"
        '_dfm_completion dfm\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        [bash, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.completion", shell],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "-m benchmarks.completion)" in done.stdout
    assert "commands[dfm]" not in done.stdout, "dfm is a function, which zsh keeps apart"
