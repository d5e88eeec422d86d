"""The plan: for each step, run or reuse, and why. Here: its form, and how keys are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import Field

from schemas.errors import ConfigurationError
from schemas.handles import Frozen
from schemas.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

Stage = Literal[
    "download", "parse", "validate", "reshape", "drift", "train", "evaluate", "compare", "publish", "promote"
]
STAGES: tuple[Stage, ...] = get_args(Stage)

Verdict = Literal["run", "reuse", "follows"]

_SHOWN = 12


class Planned(Frozen):
    """What is foreseen for one step."""

    step: str
    verdict: Verdict = Field(
        description="run: its output is not there; reuse: it is, whole; follows: an earlier step has to run first, and "
        "only what that gives tells whether this one's output is there."
    )
    why: str


def stages_named(names: Sequence[str]) -> tuple[Stage, ...]:
    """The stages of these names.

    Raises:
        ConfigurationError: there is none of a name; the nearest right one is told.
    """
    known: dict[str, Stage] = {stage: stage for stage in STAGES}
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"there is no stage '{name}'",
                f"one of {', '.join(STAGES)}",
                did_you_mean(name, STAGES, "Name one of them"),
            )
    return tuple(known[name] for name in names)


def differences(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> list[str]:
    """What differs between the components of two keys, a phrase each, as a person would say it."""
    found: list[str] = []
    for part in ("inputs", "settings", "code", "libraries", "machine"):
        old, new = _leaves(before.get(part, {})), _leaves(after.get(part, {}))
        names = (name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name))
        found.extend(_said(part, name, old.get(name), new.get(name)) for name in names)
    return found


def _leaves(value: object, name: str = "") -> dict[str, Any]:
    """The values of nested objects by their dotted names; lists count as values."""
    if not isinstance(value, dict) or (name and not value):
        return {name: value}
    leaves: dict[str, Any] = {}
    for key, inner in value.items():
        leaves |= _leaves(inner, f"{name}.{key}" if name else key)
    return leaves


def _said(part: str, name: str, old: object, new: object) -> str:
    if part == "code":
        return f"{name.replace('.', '/')} code changed"
    if part == "inputs":
        return f"{name} changed ({_short(old)} → {_short(new)})"
    return f"{name} {_text(old)} → {_text(new)}"


def _short(digest: object) -> str:
    text = str(digest)
    return f"{text[:_SHOWN]}…" if len(text) == 64 else _text(digest)


def _text(value: object) -> str:
    return "none" if value is None else str(value)
