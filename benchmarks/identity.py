"""Keys of kept results: hashes over everything a result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def key_of(*parts: object) -> str:
    """Hex sha256 over JSON-ready ``parts``; equal parts give equal keys."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def source_sha256(places: Iterable[str]) -> str:
    """Hex sha256 of this project's own files and folders of Python files, by relative path."""
    digest = hashlib.sha256()
    for place in places:
        path = _ROOT / place
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for file in files:
            digest.update(file.relative_to(_ROOT).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
