"""What the steps log, in the terminal as plain lines. Not here: bars (run_command), the UI's log (prefect_log)."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from schemas.visible import visible_lines
from tasks.stage import log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console


@contextlib.contextmanager
def logged(console: Console, level: int) -> Iterator[None]:
    """Show what the steps log: a source that failed, an output that was set aside, an epoch that ended."""

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            style = "yellow" if record.levelno >= logging.WARNING else None
            console.print(
                visible_lines(record.getMessage()), style=style, highlight=False, markup=False, soft_wrap=True
            )

    handler = Shown(level)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
