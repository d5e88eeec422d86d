"""Keeping the page of all runs up to date: whenever a run was published or removed.

Not here: the page (tasks/site).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import StepwiseError
from tasks.site import write_index
from tasks.stage import log

if TYPE_CHECKING:
    from pathlib import Path


def index_renewed(artifacts: Path) -> None:
    """Make the page anew; where that cannot be done, the log says so, for the runs it shows are whole without it."""
    try:
        write_index(artifacts)
    except (StepwiseError, OSError) as error:
        log.warning("the page of all runs could not be made anew: %s", error)
