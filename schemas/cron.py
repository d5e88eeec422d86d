"""Cron expressions: whether a text is one. Not here: when it is due (Prefect)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SHORT: Final = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART: Final = re.compile(r"^(?:\*|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d+))?$", re.ASCII)


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    first: int = 0

    def number(self, text: str) -> int:
        """The number that a text stands for; -1 where it stands for none."""
        if text.lower() in self.names:
            return self.names.index(text.lower()) + self.first
        return int(text) if text.isdigit() else -1

    def admits(self, part: str) -> bool:
        """Whether one part of a list may stand here."""
        match = _PART.match(part)
        if not match or match["step"] == "0":
            return False
        bounds = [self.number(text) for text in (match["low"], match["high"]) if text]
        return all(self.low <= bound <= self.high for bound in bounds) and bounds == sorted(bounds)


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS, 1),
    _Field("day of the week", 0, 7, _DAYS),
)


def require_cron(text: str) -> str:
    """Return the expression.

    Raises:
        ValueError: it is none; which field is wrong is told.
    """
    if text in SHORT:
        return text
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ValueError(f"a cron expression has five fields (minute hour day month weekday), this has {len(parts)}")
    for field, part in zip(_FIELDS, parts, strict=True):
        if not all(map(field.admits, part.split(","))):
            raise ValueError(f"'{part}' is no {field.name}, which goes from {field.low} to {field.high}")
    return text
