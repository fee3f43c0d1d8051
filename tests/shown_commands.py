"""Whether a command line that a document or a help shows can be typed."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
from importlib.machinery import ModuleSpec
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
COMMAND = re.compile(r"^(?:\S*/)?python3? -m (.+)$")
MAKE = re.compile(r"^make( .*)?$")
_OWN = ("dfnet", "quantize", "export", "android_harness", "benchmarks")


def wrong_with(snippet: str) -> str | None:
    """What does not exist of a command; None when all does, or it is no command of ours."""
    # A span such as `python -m quantize ...` stands for the program.
    snippet = re.sub(r"<[^<>]*>", "X", snippet).replace("...", "")
    if found := COMMAND.match(snippet):
        return _wrong_module(shlex.split(found[1], comments=True))
    if found := MAKE.match(snippet):
        return _wrong_target(shlex.split(found[1] or "", comments=True))
    return None


def _wrong_target(words: list[str]) -> str | None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+) (?:\?|:)?=", makefile, re.MULTILINE))
    for word in words:
        name, given, _ = word.partition("=")
        if given and name not in variables:
            return f"no make variable {name}"
        if not given and name not in targets:
            return f"no make target {name}"
    return None


def _wrong_module(words: list[str]) -> str | None:
    module, *rest = words
    if module.split(".")[0] not in _OWN:
        return None
    spec = _spec_of(f"{module}.__main__") or _spec_of(module)
    if spec is None:
        return f"no module {module}"
    command = getattr(importlib.import_module(spec.name), "main", None)
    return _wrong_words(command, rest) if isinstance(command, click.Command) else None


def _spec_of(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None


def _wrong_words(command: click.Command, words: list[str]) -> str | None:
    """An option, a command or a choice that is not there. Values are not opened."""
    if command.context_settings.get("ignore_unknown_options"):
        return None
    options = {name: one for one in command.params for name in (*one.opts, *one.secondary_opts)}
    words = list(words)
    while words:
        word, _, value = words.pop(0).partition("=")
        if word.startswith("-"):
            if word != "--help" and word not in options:
                return f"no option {word} of {command.name}"
            option = options.get(word)
            if isinstance(option, click.Option) and not option.is_flag:
                value = value or (words.pop(0) if words else "")
                if isinstance(option.type, click.Choice) and value not in option.type.choices:
                    return f"no {word} {value} of {command.name}"
        elif isinstance(command, click.Group):
            return (
                _wrong_words(command.commands[word], words)
                if word in command.commands
                else f"no command {word} of {command.name}"
            )
    return None
