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
import threading
from pathlib import Path

_PACKAGES = ("tasks", "schemas")
# CPython 3.11 keeps one recursion count for all threads that build syntax trees: two at once can fail (SystemError).
# The lock keeps this module's own apart; where it is a library's thread, which knows no lock, it is tried again.
_parsing = threading.Lock()
_TRIES = 5


@functools.cache
def code_digests(module: str) -> dict[str, str]:
    """SHA-256 over the syntax of a module and of each module of this project that it imports, however deep, by name."""
    return {name: _syntax_digest(path) for name, path in sorted(_reached(module).items())}


@functools.cache
def _syntax_digest(path: Path) -> str:
    return hashlib.sha256(ast.dump(_syntax(path)).encode()).hexdigest()


def _reached(module: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if path is None or name in found:
            continue
        found[name] = path
        waiting.extend(_imports(_syntax(path), name))
    return found


def _source(name: str) -> Path | None:
    if name.partition(".")[0] not in _PACKAGES:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # `from tasks.store import Store` names no module tasks.store.Store
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _imports(tree: ast.Module, module: str) -> list[str]:
    package = ".".join(module.split(".")[:-1])
    names = [package] if package else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names += [source, *(f"{source}.{alias.name}" for alias in node.names)]
    return names


def _syntax(path: Path) -> ast.Module:
    text = path.read_text(encoding="utf-8")
    with _parsing:
        tree = _parsed(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and _is_text(body[0].value):
            del body[0]
    return tree


def _parsed(text: str) -> ast.Module:
    for _ in range(_TRIES - 1):
        with contextlib.suppress(SystemError):
            return ast.parse(text)
    return ast.parse(text)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
