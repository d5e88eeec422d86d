"""Keeping the page of all runs up to date: whenever a run was published, failed or was removed.

Not here: the page (tasks/site).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flows.attempts import Attempts, Problem
from schemas.errors import StepwiseError
from tasks.site import write_index
from tasks.site.records import Failure
from tasks.stage import log

if TYPE_CHECKING:
    from pathlib import Path

    from flows.attempts import Attempt

FAILED: Final = ("failed", "stopped", "died")


def index_made(artifacts: Path) -> Path:
    """Make the page anew, with the runs that published nothing.

    Raises:
        StorageError: it cannot be written.
    """
    return write_index(
        artifacts, lambda: [_failure(each) for each in Attempts(artifacts).all() if each.outcome in FAILED]
    )


def index_renewed(artifacts: Path) -> None:
    """Make the page anew; where that cannot be done, the log says so, for the runs it shows are whole without it."""
    try:
        index_made(artifacts)
    except (StepwiseError, OSError) as error:
        log.warning("the page of all runs could not be made anew: %s", error)


def _failure(attempt: Attempt) -> Failure:
    problem = attempt.problem or Problem(step=None, found="")  # none: it died
    return Failure(attempt.run, attempt.created, attempt.outcome, problem.step, problem.found, problem.remedy)
