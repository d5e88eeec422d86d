"""What every stage does alike: its key, its reuse, its progress and its timing. Not here: what any stage does.

A key is a digest of everything an output depends on. The store answers for what exists; a hit is believed only after
its files were verified. Nothing here knows Prefect: messages go to the logger `stepwise`, events to whoever listens.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.errors import StepwiseError
from tasks.code import code_digests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.store import Store

Output = TypeVar("Output", bound=BaseModel)

log = logging.getLogger("stepwise")

Progress = Callable[[int, int | None, str], None]


def _as_it_is(output: Output) -> Output:
    return output


def _always(_: object) -> bool:
    return True


_version = functools.cache(importlib.metadata.version)  # it reads a file each time


@dataclass(frozen=True)
class Key(Generic[Output]):
    """Everything that one output of a stage depends on, and how the output is known again.

    Attributes:
        step: The step of a run that makes it, for people: "parse train".
        stage: Name of the stage.
        form: What the stage returns.
        module: The module whose code makes the output; what it imports of this project counts as well. None where the
            inputs alone say what the output is, whatever code brought it.
        inputs: Digests of what is read, by what a person calls it.
        settings: The part of the configuration that the stage reads, as JSON, named as in the configuration.
        libraries: Names of distributions whose versions shape the output's bytes.
        machine: What else shapes them (training: processor features, threads).
        adapt: Puts into a remembered output what the key does not cover: this run's names for the same bytes.
        stands: Whether a remembered output is still there, where its handles alone do not tell.
    """

    step: str
    stage: str
    form: type[Output]
    module: str | None
    inputs: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    machine: dict[str, str] = field(default_factory=dict)
    adapt: Callable[[Output], Output] = _as_it_is
    stands: Callable[[Output], bool] = _always

    @functools.cached_property
    def components(self) -> dict[str, dict[str, Any]]:
        """The parts of the key by name, as they are digested."""
        return {
            "inputs": self.inputs,
            "settings": self.settings,
            "code": code_digests(self.module) if self.module else {},
            "libraries": {name: _version(name) for name in self.libraries},
            "machine": self.machine,
        }

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the stage and the components."""
        content = {"stage": self.stage, **self.components}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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


def once(
    store: Store,
    key: Key[Output],
    make: Callable[[], Output],
    anew: str | None = None,
    then: Callable[[], None] = lambda: None,
) -> Output:
    """What a step returns for a key: taken from the store where it is whole, else made now.

    Two runs that ask for one key at the same time make it once; the lock ends with its owner.

    Args:
        store: Where outputs are.
        key: What the output depends on.
        make: Makes the output.
        anew: A demand to make the output again even where it is whole, by the name of who demands it: the same demand
            is met once, so that a retry does not repeat it.
        then: What is done once the output is remembered, before anybody else may ask for the same key.
    """
    began = time.monotonic()
    _tell(Advanced(key.step, 0, None, ""))
    with _stopped(key.step), store.lock(f"{key.stage}-{key.digest}"):
        known = remembered(store, key, anew)
        output = key.adapt(make() if known is None else known)
        if known is None:
            store.remember(key.stage, key.digest, {"step": key.step, "components": key.components}, output)
            if anew:
                store.note_met(anew, key.step)
        then()
    tell_finished(key.step, time.monotonic() - began, reused=known is not None)
    return output


def remembered(store: Store, key: Key[Output], anew: str | None = None) -> Output | None:
    """The output that the store holds whole for a key; None where there is none, or where it shall be made anew."""
    if anew and not store.was_met(anew, key.step):
        return None
    return understood(key, store.recall(key.stage, key.digest))


def understood(key: Key[Output], value: dict[str, Any] | None) -> Output | None:
    """The output of a key, from what the store remembers of it."""
    try:
        output = None if value is None else key.form.model_validate(value)
    except ValidationError:  # a damaged record is a miss like any other
        return None
    return key.adapt(output) if output is not None and key.stands(output) else None


@contextlib.contextmanager
def timed(step: str) -> Iterator[None]:
    """Tell the time of a step whose output is made anew each time."""
    began = time.monotonic()
    _tell(Advanced(step, 0, None, ""))
    with _stopped(step):
        yield
    tell_finished(step, time.monotonic() - began, reused=False)


@contextlib.contextmanager
def _stopped(step: str) -> Iterator[None]:
    """Have an error name the step that it stopped; others may be under way beside it."""
    try:
        yield
    except StepwiseError as error:
        error.step = step
        raise


def tell_finished(step: str, seconds: float, *, reused: bool) -> None:
    """Tell the log and whoever listens that a step came to its end."""
    log.info("%s: %s in %.1f s", step, "nothing changed, reused" if reused else "done", seconds)
    _tell(Finished(step, seconds, reused=reused))


def _tell(event: Finished | Advanced) -> None:
    for listener in tuple(_listeners):
        listener(event)
