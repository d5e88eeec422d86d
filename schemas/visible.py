"""Text from elsewhere made safe to show: what could deceive a reader, or move a terminal's cursor, is spelled out."""

from __future__ import annotations

import re
from typing import Final

_DECEIVING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with control, direction-changing and unpaired surrogate characters spelled out, as in [U+202E]."""
    return _DECEIVING.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def visible_lines(text: str) -> str:
    """The same, but for ends of lines and tabs."""
    return _DECEIVING.sub(lambda found: found[0] if found[0] in "\n\t" else f"[U+{ord(found[0]):04X}]", text)


def without_user(address: str) -> str:
    """An address without the user and password that it may hold."""
    return re.sub(r"(?<=://)[^/?#\s]*@", "", address)
