"""What every stage does alike: its key, its reuse, its progress and its timing. Not here: what any stage does.

A key is a digest of everything an output depends on. The store answers for what exists; a hit is believed only after
its files were verified. Nothing here knows Prefect: messages go to the logger `stepwise`, events to whoever listens.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from tasks.store import Store

    Output = TypeVar("Output", bound=BaseModel)

log = logging.getLogger("stepwise")

Progress = Callable[[int, int | None, str], None]

_PACKAGES = ("tasks", "schemas")
# CPython 3.11 keeps one recursion count for all threads that build syntax trees: two at once can fail (SystemError).
_parsing = threading.Lock()


@dataclass(frozen=True)
class Key:
    """Everything that one output of a stage depends on.

    Attributes:
        stage: Name of the stage.
        module: The module whose code makes the output; what it imports of this project counts as well.
        inputs: Digests of what is read.
        settings: The part of the configuration that the stage reads, as JSON.
        libraries: Names of distributions whose versions shape the output's bytes.
        machine: What else shapes them (training: processor features, threads).
    """

    stage: str
    module: str
    inputs: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    machine: dict[str, str] = field(default_factory=dict)

    def components(self) -> dict[str, Any]:
        """The parts of the key by name, as they are digested."""
        return {
            "stage": self.stage,
            "inputs": list(self.inputs),
            "settings": self.settings,
            "code": code_digest(self.module),
            "libraries": {name: importlib.metadata.version(name) for name in self.libraries},
            "machine": self.machine,
        }

    @property
    def digest(self) -> str:
        """SHA-256 over the components."""
        return hashlib.sha256(json.dumps(self.components(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Finished:
    """A step came to its end: how long it took, and whether its output was there already."""

    step: str
    seconds: float
    reused: bool


@dataclass(frozen=True)
class Advanced:
    """A step has done so much of so much."""

    step: str
    done: int
    total: int | None
    note: str


Listener = Callable[[Finished | Advanced], None]
_listeners: list[Listener] = []


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have every step of this process tell the listener how it goes."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def progress_of(step: str) -> Progress:
    """A progress function for the plain code of a step."""

    def tell(done: int, total: int | None, note: str = "") -> None:
        _tell(Advanced(step, done, total, note))

    return tell


def once(store: Store, step: str, key: Key, form: type[Output], make: Callable[[], Output]) -> Output:
    """What a step returns for a key: taken from the store where it is whole, else made now.

    Two runs that ask for one key at the same time make it once; the lock ends with its owner.
    """
    began = time.monotonic()
    _tell(Advanced(step, 0, None, ""))
    digest = key.digest
    with store.lock(f"{key.stage}-{digest}"):
        known = _recalled(store, key.stage, digest, form)
        output = make() if known is None else known
        if known is None:
            store.remember(key.stage, digest, output)
    seconds = time.monotonic() - began
    log.info("%s: %s in %.1f s", step, "done" if known is None else "nothing changed, reused", seconds)
    _tell(Finished(step, seconds, reused=known is not None))
    return output


def _recalled(store: Store, stage: str, digest: str, form: type[Output]) -> Output | None:
    value = store.recall(stage, digest)
    try:
        return None if value is None else form.model_validate(value)
    except ValidationError:  # a damaged record is a miss like any other
        return None


@contextlib.contextmanager
def timed(step: str) -> Iterator[None]:
    """Tell the time of a step whose output is made anew each time."""
    began = time.monotonic()
    _tell(Advanced(step, 0, None, ""))
    yield
    _tell(Finished(step, time.monotonic() - began, reused=False))


@functools.cache
def code_digest(module: str) -> str:
    """SHA-256 over the syntax of a module and of all modules of this project that it imports, however deep.

    Comments, formatting and docstrings do not count, since they change nothing that is made.
    """
    trees = {name: _syntax(path) for name, path in sorted(_reached(module).items())}
    return hashlib.sha256(json.dumps({name: ast.dump(tree) for name, tree in trees.items()}).encode()).hexdigest()


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
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _syntax(path: Path) -> ast.Module:
    with _parsing:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and _is_text(body[0].value):
            del body[0]
    return tree


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _tell(event: Finished | Advanced) -> None:
    for listener in tuple(_listeners):
        listener(event)
