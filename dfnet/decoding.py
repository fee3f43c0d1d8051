"""Builds frozen dataclasses from JSON by their annotations, refusing everything else.

A field is a scalar, ``X | None``, ``tuple[X, ...]``, ``dict[str, X]``, a ``Literal``, a dataclass,
or any of these ``Annotated`` with rules. Fields that may be None may also be left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dfnet.errors import ArtifactError

_T = TypeVar("_T")
_SHOWN = 60
"""Characters of a wrong value that an error shows."""


@dataclass(frozen=True)
class Rule:
    """What a decoded value must also be: ``needed`` completes the sentence "needed ..."."""

    needed: str
    holds: Callable[[Any], bool]


def read_json(path: Path) -> object:
    """The JSON value in ``path``; a key may stand only once in its object.

    NaN and infinities come through, so that the field they stand in can be named.

    Raises:
        ArtifactError: the file is missing, or is not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, object_pairs_hook=_object, parse_constant=float)
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(
            f"Result {path}: cannot be read ({error}). Give the result.json that a runner wrote."
        ) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} stands in one object twice")
    return found


def decode(kind: type[_T], value: object, where: str, *, page: str) -> _T:
    """``value`` as a ``kind``; errors name it as ``where`` and point to ``page``.

    Raises:
        ArtifactError: names the first field that is missing, unknown, or breaks a rule.
    """
    try:
        found: _T = _decode(kind, value, where)
    except _UnfitError as error:
        raise ArtifactError(f"{error} See {page}.") from None
    return found


class _UnfitError(Exception):
    """What is wrong with which field, without the page that explains it."""


def _decode(kind: Any, value: object, where: str) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = _decode(parts[0], value, where)
        for rule in parts[1:]:
            if not rule.holds(found):
                raise _unfit(where, value, rule.needed)
        return found
    if origin in (Union, UnionType):
        (known,) = (part for part in parts if part is not NoneType)
        return None if value is None else _decode(known, value, where)
    if origin is Literal:
        if not isinstance(value, str) or value not in parts:
            raise _unfit(where, value, f"one of {', '.join(parts)}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise _unfit(where, value, "a list")
        return tuple(_decode(parts[0], one, f"{where}[{i}]") for i, one in enumerate(value))
    if origin is dict:
        members = _members(value, where)
        return {name: _decode(parts[1], one, f"{where}.{name}") for name, one in members.items()}
    return _fields(kind, value, where) if is_dataclass(kind) else _scalar(kind, value, where)


def _fields(kind: Any, value: object, where: str) -> Any:
    members, hints = _members(value, where), get_type_hints(kind, include_extras=True)
    names = [field.name for field in fields(kind)]
    unknown = sorted(set(members) - set(names))
    if unknown:
        raise _UnfitError(
            f"{where}: got the unknown field {unknown[0]!r}, needed only {', '.join(names)}."
        )
    optional = {name for name in names if NoneType in get_args(hints[name])}
    missing = [name for name in names if name not in members and name not in optional]
    if missing:
        raise _UnfitError(f"{where}: got no field {missing[0]!r}, needed it.")
    return kind(**{n: _decode(hints[n], members.get(n), _inside(where, n)) for n in names})


def _inside(where: str, name: str) -> str:
    """``Result r.json`` and ``device`` give ``Result r.json: device``; below that, dots."""
    return f"{where}.{name}" if ": " in where else f"{where}: {name}"


def _members(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _unfit(where, value, "an object")
    return value


def _scalar(kind: type, value: object, where: str) -> Any:
    # True is an int to Python, and 1 is as good a number of milliseconds as 1.0.
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
        raise _unfit(where, value, names[kind])
    return _finite(value, where) if kind is float else value


def _finite(value: Any, where: str) -> float:
    try:
        number = float(value)
    except OverflowError as error:
        raise _unfit(where, "a huge number", "a finite number") from error
    if not math.isfinite(number):
        raise _unfit(where, number, "a finite number")
    return number


def unfit(where: str, value: object, needed: str, *, page: str) -> ArtifactError:
    """The error for a decoded value that is not what the protocol needs there."""
    return ArtifactError(f"{_unfit(where, value, needed)} See {page}.")


def _unfit(where: str, value: object, needed: str) -> _UnfitError:
    shown = "null" if value is None else repr(value)
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."
    return _UnfitError(f"{where}: got {shown}, needed {needed}.")
