"""The code that makes an output: digests of a module and of all that it imports of this project.

A foundation: keys are made of them. Comments, formatting and docstrings do not count, since they change nothing that
is made.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import json
import sys
import threading
from pathlib import Path
from typing import NamedTuple

from tasks.store import write_atomically

_PACKAGES = ("tasks", "schemas")
# CPython 3.11 keeps one recursion count for all threads that build syntax trees: two at once can fail (SystemError).
# The lock keeps this module's own apart; where it is a library's thread, which knows no lock, it is tried again.
_parsing = threading.Lock()
_TRIES = 5
_NOTES = 1000
_OWN = Path(__file__).read_text(encoding="utf-8")  # what is noted was found by this code


@functools.cache
def code_digests(module: str) -> dict[str, str]:
    """SHA-256 over the syntax of a module and of each module of this project that it imports, however deep, by name."""
    digests = {name: _syntax(path).digest for name, path in sorted(_reached(module).items())}
    _noted().save()
    return digests


class Syntax(NamedTuple):
    """What a source says: the digest of its syntax, and its imports as (dots, module, names)."""

    digest: str
    imports: tuple[tuple[int, str, tuple[str, ...]], ...]


def _reached(module: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = None if name in found else _source(name)
        if path is not None:
            found[name] = path
            waiting.extend(_imports(_syntax(path), name))
    return found


@functools.cache
def _source(name: str) -> Path | None:
    if name.partition(".")[0] not in _PACKAGES:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # `from tasks.store import Store` names no module tasks.store.Store
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _imports(syntax: Syntax, module: str) -> list[str]:
    package = ".".join(module.split(".")[:-1])
    found = [package] if package else []
    for level, source, names in syntax.imports:
        absolute = importlib.util.resolve_name("." * level + source, package)
        found += [absolute, *(f"{absolute}.{name}" for name in names)]
    return found


def _syntax(path: Path) -> Syntax:
    known = path.stat()
    return _syntax_of(path, known.st_mtime_ns, known.st_size)


@functools.cache  # most files are reached from most stages
def _syntax_of(path: Path, _changed: int, _size: int) -> Syntax:
    text = path.read_text(encoding="utf-8")
    notes, name = _noted(), hashlib.sha256((_OWN + text).encode()).hexdigest()
    if name not in notes.of:
        notes.add(name, _understood(text))
    return notes.of[name]


class Notes:
    """What sources say, by the digest of their text; kept beside Python's own caches, for parsing takes half a second.

    A file that is not what was written is as good as none; one that cannot be written is not missed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._news = False
        self.of: dict[str, Syntax] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            self.of = {name: _syntax_in(*value) for name, value in json.loads(path.read_bytes()).items()}

    def add(self, name: str, syntax: Syntax) -> None:
        """Note what one source says; beyond so many, those of earlier versions are forgotten."""
        if len(self.of) >= _NOTES:
            self.of.clear()
        self.of[name] = syntax
        self._news = True

    def save(self) -> None:
        """Write what is new."""
        if self._news and not sys.dont_write_bytecode:
            self._news = False
            with contextlib.suppress(OSError):
                write_atomically(self._path, json.dumps(self.of).encode())


def _syntax_in(digest: str, imports: list[tuple[int, str, list[str]]]) -> Syntax:
    return Syntax(str(digest), tuple((int(level), str(source), tuple(names)) for level, source, names in imports))


@functools.cache
def _noted() -> Notes:
    return Notes(Path(importlib.util.cache_from_source(__file__)).with_suffix(".syntax.json"))


def _understood(text: str) -> Syntax:
    with _parsing:
        tree = _parsed(text)
    imports: list[tuple[int, str, tuple[str, ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and _is_text(body[0].value):
            del body[0]
    return Syntax(hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(imports))


def _parsed(text: str) -> ast.Module:
    for _ in range(_TRIES - 1):
        with contextlib.suppress(SystemError):
            return ast.parse(text)
    return ast.parse(text)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
