"""Findings: what the doctor says of one thing. Here: their form. Not here: any examination, how they are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from schemas.errors import StepwiseError
from schemas.handles import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Verdict = Literal["well", "warn", "bad"]


class Finding(Frozen):
    """One thing that was examined. Where it is not well, the remedy says what to do."""

    about: str
    verdict: Verdict
    found: str
    details: tuple[str, ...] = ()
    remedy: str = ""
    exit_code: int = Field(default=0, description="The command's, where this is the first that is bad.")


def well(about: str, found: str, details: Iterable[str] = ()) -> Finding:
    """A thing that is as it should be."""
    return Finding(about=about, verdict="well", found=found, details=tuple(details))


def warn(about: str, found: str, remedy: str, details: Iterable[str] = ()) -> Finding:
    """A thing to look at; what stepwise is for goes on."""
    return Finding(about=about, verdict="warn", found=found, remedy=remedy, details=tuple(details))


def bad(about: str, found: str, remedy: str, exit_code: int, details: Iterable[str] = ()) -> Finding:
    """A thing that keeps something from working."""
    details = tuple(details)
    return Finding(about=about, verdict="bad", found=found, remedy=remedy, exit_code=exit_code, details=details)


def examined(about: str, examination: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of one examination; one that fails is a finding as well, and the others go on."""
    findings: list[Finding] = []
    try:
        findings.extend(examination())
    except StepwiseError as error:
        found = f"{error.file}: {error.found}" if error.file else error.found
        expected = f". Expected: {error.expected}" if error.expected else ""
        findings.append(bad(about, found + expected, error.remedy, error.exit_code))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and the other examinations are worth having
        found = f"could not be examined: {type(error).__name__}: {error}"
        findings.append(bad(about, found, "Report it; the other findings stand", 1))
    return findings


def some(things: Iterable[str], most: int = 5) -> str:
    """The first of several things, and how many more there are."""
    listed = list(things)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return "; ".join(listed[:most]) + more


def size(number: float) -> str:
    """A number of bytes for a person."""
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"
