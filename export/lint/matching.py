"""Finds the operators of a traced network that a rule names, and where its source has them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.fx import Graph, Node

from export.lint.rules import RULES, Effect, FileKind, Rule
from quantize.dataflow import module_names
from quantize.trace import trace


@dataclass(frozen=True)
class Finding:
    """One rule's operators in a network: the ``effects`` on the files asked for, and the places.

    A place is ``module (file:line)`` as far as the trace knows them.
    """

    rule: Rule
    effects: tuple[Effect, ...]
    places: tuple[str, ...]

    @property
    def is_problem(self) -> bool:
        return any(effect.consequence.is_problem for effect in self.effects)

    def to_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule.name,
            "severity": "problem" if self.is_problem else "note",
            "effects": [effect.to_json() for effect in self.effects],
            "places": list(self.places),
            "rewrite": self.rule.rewrite,
        }


def find(network: nn.Module, kinds: Collection[FileKind]) -> tuple[Finding, ...]:
    """What ``RULES`` say of ``network`` in files of ``kinds``, problems first.

    Raises:
        UnsupportedError: the network cannot be traced.
    """
    graph = trace(network).graph
    found = filter(None, (_finding(rule, graph, kinds) for rule in RULES))
    return tuple(sorted(found, key=lambda finding: not finding.is_problem))


def _finding(rule: Rule, graph: Graph, kinds: Collection[FileKind]) -> Finding | None:
    effects = tuple(e for e in rule.effects if any(map(e.concerns, kinds)))
    nodes = [node for node in graph.nodes if rule.applies(node)] if effects else []
    return Finding(rule, effects, tuple(_unique(map(_place, nodes)))) if nodes else None


def _unique(places: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(places)


def _place(node: Node) -> str:
    module = (module_names(node) or ("",))[-1] or "the network's forward"
    line = _source_line(str(node.meta.get("stack_trace", "")))
    return f"{module} ({line})" if line else module


def _source_line(stack_trace: str) -> str:
    """``file:line`` of the innermost frame that is not torch's own."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', stack_trace)
    own = [(file, line) for file, line in frames if "/torch/" not in file]
    if not own:
        return ""
    file, line = own[-1]
    path = Path(file)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{line}"
