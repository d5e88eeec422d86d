"""A run's log as a story: what a reader does not need is left out of what Prefect itself says.

A run says of each step that it is done, so Prefect need not say it again; an error for people is told once, in its own
words; any other exception is shown with one traceback, not with one at each level that it passes. Not here: what the
steps say (tasks), the command's own lines (run_command).
"""

from __future__ import annotations

import logging
from typing import Final

from schemas.errors import StepwiseError

LOGGERS: Final = ("prefect.flow_runs", "prefect.task_runs")
OF_STEPS: Final = ("Finished in state Completed", "Finished in state Cached", "Finished in state Failed")


class Story(logging.Filter):
    """Passes what belongs to the story."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record of Prefect's is a part of it."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            said = record.getMessage()
            return not said.startswith(OF_STEPS if record.name == "prefect.task_runs" else OF_STEPS[-1])
        again = error is self._shown
        self._shown = error
        return not again and not isinstance(error, StepwiseError)


def make_log_readable() -> None:
    """Have this process's runs logged so; once for all of them."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(filtering, Story) for filtering in logger.filters):
            logger.addFilter(_STORY)


_STORY: Final = Story()
