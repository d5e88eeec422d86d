"""What somebody meant who wrote a name that there is not."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", *, most: int = 1) -> str:
    """A question with the nearest of the known names, at most so many of them; `otherwise` where none is near."""
    near = difflib.get_close_matches(name, list(known), n=most, cutoff=0.4)
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else otherwise
