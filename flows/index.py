"""Keeping the page of all runs up to date: whenever a run was published, failed or was removed.

Not here: the page (tasks/site).
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from flows.attempts import ENDED_BADLY, ENDED_WELL, Attempts, Problem
from schemas.errors import StepwiseError
from tasks.site import write_index
from tasks.site.records import Failure
from tasks.stage import log

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flows.attempts import Attempt

TOLD: Final = 300  # characters; the dossier has all of them


def index_made(artifacts: Path) -> Path:
    """Make the page anew, with the runs that published nothing.

    Raises:
        StorageError: it cannot be written.
    """
    return write_index(artifacts, lambda: failures_of(Attempts(artifacts).all()))


def index_renewed(artifacts: Path) -> None:
    """Make the page anew; where that cannot be done, the log says so, for the runs it shows are whole without it."""
    try:
        index_made(artifacts)
    except (StepwiseError, OSError) as error:
        log.warning("the page of all runs could not be made anew: %s", error)


def failures_of(attempts: Sequence[Attempt]) -> list[Failure]:
    """The attempts that failed, were stopped or died, of all attempts, both the newest first."""
    failures, well = [], set()
    for attempt in attempts:
        if attempt.outcome in ENDED_WELL:
            well.add(attempt.dataset)
        elif attempt.outcome in ENDED_BADLY:
            failures.append(_failure(attempt, unanswered=attempt.dataset not in well))
    return failures


def _failure(attempt: Attempt, *, unanswered: bool) -> Failure:
    problem = attempt.problem or Problem(step=None, found="")  # none: it died
    where = f"{problem.file}: " if problem.file else ""
    found = textwrap.shorten(f"{where}{problem.found}", TOLD, placeholder=" …")
    return Failure(attempt.run, attempt.created, attempt.outcome, problem.step, found, problem.remedy, unanswered)
