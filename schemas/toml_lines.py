"""Where something stands in a TOML file: the line of a key, for errors about its value.

Here: lines only, found with the standard library's own parser. Not here: what any key means.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KeyPath = tuple[str | int, ...]


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line (from 1) of a key in a valid TOML text; of the nearest table around it where the key is missing.

    Args:
        text: The whole file.
        path: Keys and array indices from the top, as pydantic states a location.
    """
    lines: dict[KeyPath, int] = {}
    for found, line in _places(text):
        lines.setdefault(found, line)
    wanted = tuple(path)
    return next((lines[wanted[:n]] for n in range(len(wanted), 0, -1) if wanted[:n] in lines), 1)


def line_of_syntax_error(error: tomllib.TOMLDecodeError) -> int | None:
    """The line that the parser complains about, which it says in words only; None for the end of the file."""
    found = re.search(r"at line (\d+)", str(error))
    return int(found[1]) if found else None


def _places(text: str) -> Iterator[tuple[KeyPath, int]]:
    table: KeyPath = ()
    arrays: Counter[KeyPath] = Counter()
    for start, statement in _statements(text):
        content = tomllib.loads("\n".join(statement))
        header = statement[0].lstrip().startswith("[")
        if header:
            table = next(path for path in reversed(list(_paths(content))) if not path or isinstance(path[-1], str))
        if header and statement[0].lstrip().startswith("[["):
            name = table
            table = (*name, arrays[name])
            arrays[name] += 1
        if header:
            yield from ((table[:n], start) for n in range(len(table), 0, -1))
            continue
        for path in _paths(content):
            yield (*table, *path), start + _offset(statement, path)


def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
    """Split a valid TOML text into headers and assignments, each with its first line's number."""
    pending: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        pending.append(line)
        if _parsed("\n".join(pending)) is not None:
            yield number - len(pending) + 1, pending
            pending = []


def _offset(statement: list[str], path: KeyPath) -> int:
    """Lines from an assignment's start to the element of its array that a path leads into."""
    index = next((part for part in path if isinstance(part, int)), None)
    for lines in range(1, len(statement)) if index is not None else ():
        closed = _parsed("\n".join(statement[:lines]) + "\n]")
        values: Any = closed
        while isinstance(values, dict):
            values = next(iter(values.values()), None)
        if isinstance(values, list) and index is not None and len(values) > index:
            return lines - 1
    return len(statement) - 1 if index is not None else 0


def _paths(value: object, before: KeyPath = ()) -> Iterator[KeyPath]:
    if before:
        yield before
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _paths(part, (*before, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _paths(part, (*before, index))


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
