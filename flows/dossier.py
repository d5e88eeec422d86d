"""The dossier of a failure: what stopped, where, what was expected, the last words, and how to run it again.

Here: what it says. Not here: when it is left (retrain). What comes from data is escaped, so that it cannot be read as
markup.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from schemas.errors import StepwiseError
from tasks.publish.cards import as_text
from tasks.stage import Advanced, Finished, listening, log

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flows.attempts import Attempt

LOG_LINES: Final = 20


@dataclass
class Journal:
    """What is known of a run while it goes on: the steps that ended, those under way, the last lines of the log."""

    finished: list[Finished] = field(default_factory=list)
    begun: dict[str, None] = field(default_factory=dict)
    lines: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=LOG_LINES))

    @property
    def under_way(self) -> list[str]:
        """The steps that began and did not end: where a failure happened."""
        ended = {event.step for event in self.finished}
        return [step for step in self.begun if step not in ended]


@contextlib.contextmanager
def journal_kept() -> Iterator[Journal]:
    """Keep a journal of this process's run."""
    journal = Journal()

    def note(event: Finished | Advanced) -> None:
        journal.begun[event.step] = None
        if isinstance(event, Finished):
            journal.finished.append(event)

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            journal.lines.append(record.getMessage())

    handler = Lines()
    log.addHandler(handler)
    try:
        with listening(note):
            yield journal
    finally:
        log.removeHandler(handler)


def as_error(error: Exception) -> StepwiseError:
    """Any error as one for people."""
    if isinstance(error, StepwiseError):
        return error
    return StepwiseError(f"{type(error).__name__}: {error}", "", "The flow run's log has the traceback")


def dossier(error: StepwiseError, attempt: Attempt, journal: Journal, digests: Mapping[str, str]) -> str:
    """A failure in markdown."""
    texts = {"Found": error.found, "Expected": error.expected, "What to do": error.remedy, "File": error.file}
    steps = ", ".join(journal.under_way) or "before the first step"
    done = [f"| {step} | `{digest[:16]}…` |" for step, digest in digests.items()]
    parts = [
        "# The run stopped",
        f"**{as_text(steps)}** · {as_text(attempt.dataset)}, {as_text(attempt.preset)} · `{attempt.run}`",
        *(f"### {name}\n\n{as_text(text)}" for name, text in texts.items() if text),
        "### Run again\n\nWhat was finished is reused, only the rest is done.\n\n" + _fenced(rerun_command(attempt)),
        "### What was finished\n\n" + "\n".join(["| Step | Digest |", "| --- | --- |", *done]) if done else "",
        "### The log's last lines\n\n" + _fenced("\n".join(journal.lines)) if journal.lines else "",
    ]
    return "\n\n".join(part for part in parts if part)


def rerun_command(attempt: Attempt) -> str:
    """The command that runs an attempt again."""
    return shlex.join(["stepwise", "rerun", attempt.run, "--artifacts", str(attempt.parameters["artifacts"])])


def _fenced(text: str) -> str:
    return f"~~~text\n{text.replace('~~~', '')}\n~~~"
