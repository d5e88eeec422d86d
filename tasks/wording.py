"""How figures, counts, durations and foreign texts are written for people. Pages and messages share it."""

from __future__ import annotations

import re

from schemas.visible import visible, visible_lines

NARROW = "\u202f"  # narrow no-break space, before units


def percent(share: float, decimals: int = 1) -> str:
    """A share in percent; never rounded to 0 or 100 where it is neither."""
    text = f"{100 * share:.{decimals}f}"
    looks_exact = float(text) in {0.0, 100.0}
    if looks_exact and share not in {0.0, 1.0} and decimals < 6:
        return percent(share, decimals + 1)
    if looks_exact and share > 0 and share < 0.5:
        return f"under {10.0**-decimals:.{decimals}f}{NARROW}%"
    return f"{text}{NARROW}%"


def beside(value: float, limit: float, form: str = ".2g") -> str:
    """A number in the fewest digits, from a format's own on, that say on which side of a limit it lies."""
    first, kind = int(form[1:-1]), form[-1]
    texts = [f"{value:.{digits}{kind}}" for digits in range(first, first + 12)]
    shown = (float(text.removesuffix("%")) / (100 if kind == "%" else 1) for text in texts)
    fitting = (
        text
        for text, near in zip(texts, shown, strict=True)
        if (near > limit, near < limit) == (value > limit, value < limit)
    )
    return next(fitting, texts[-1])


def seconds(value: float) -> str:
    """A duration as people say it."""
    if value < 10:
        return f"{value:.2f}{NARROW}s"
    if value < 120:
        return f"{value:.1f}{NARROW}s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}{NARROW}min {rest:02d}{NARROW}s"


def number(value: int) -> str:
    """A count with its thousands set apart."""
    return f"{value:,}"


def counted(count: int, thing: str) -> str:
    """A number of things: '1 run', '2,000 runs'."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def finalized(value: object) -> object:
    """What a template shows of a value: in plain text, whatever could deceive a reader is spelled out."""
    return visible(value) if type(value) is str else value


def as_text(text: str) -> str:
    """Markdown that shows a text as it is, whatever it holds, line by line."""
    escaped = re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)  # CommonMark: a backslash before any ASCII punctuation
    return "\\\n".join(visible(line.strip()) for line in escaped.splitlines())


def fenced(text: str) -> str:
    """Markdown that shows lines as they are."""
    return f"~~~text\n{visible_lines(text.replace('~~~', ''))}\n~~~"
