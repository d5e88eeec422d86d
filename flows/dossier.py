"""The dossier of a failure: what stopped, where, what was expected, the last words, and how to run it again.

Here: what it says. Not here: when it is left (retrain). What comes from data is escaped, so that it cannot be read as
markup.
"""

from __future__ import annotations

import collections
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from flows.attempts import Attempt, rerun_command
from schemas.errors import DataError, StepwiseError
from tasks.stage import Advanced, Finished, listening, log
from tasks.wording import as_text, fenced

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from schemas.errors import BadRecord

LOG_LINES: Final = 20
PICTURE_PIXELS: Final = 56  # the least width of a bad record's picture


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


def dossier(
    error: StepwiseError, attempt: Attempt, journal: Journal, digests: Mapping[str, str], form: str | None = None
) -> str:
    """A failure in markdown; with the address of the form that runs it again, where there is one."""
    texts = {"Found": error.found, "Expected": error.expected, "What to do": error.remedy, "File": error.file}
    steps = error.step or ", ".join(journal.under_way) or "before the first step"
    done = [f"| {output} | `{digest[:16]}…` |" for digest, output in digests.items()]
    records = error.records if isinstance(error, DataError) else ()
    parts = [
        "# The run stopped",
        f"**{as_text(steps)}** · {as_text(attempt.dataset)}, {as_text(attempt.preset)} · `{attempt.run}`",
        *(f"### {name}\n\n{as_text(text)}" for name, text in texts.items() if text),
        f"### First bad records\n\n{records_table(records)}" if records else "",
        f"### Run again\n\n{_again(attempt, form)}",
        "### What was finished\n\n" + "\n".join(["| Output | Digest |", "| --- | --- |", *done]) if done else "",
        "### The log's last lines\n\n" + fenced("\n".join(journal.lines)) if journal.lines else "",
    ]
    return "\n\n".join(part for part in parts if part)


def records_table(records: Sequence[BadRecord]) -> str:
    """Bad records as a table, a row each, with their images where they have some."""
    pictured = any(record.picture is not None for record in records)
    lines = [
        "| File | Row | Value | What is wrong |" + " Image |" * pictured,
        "| --- | ---: | --- | --- |" + " --- |" * pictured,
    ]
    for record in records:
        cells = (as_text(record.file), str(record.row), as_text(record.value), as_text(record.wrong))
        lines.append(f"| {' | '.join(cells)} |" + f" {_picture(record)} |" * pictured)
    return "\n".join(lines)


def _again(attempt: Attempt, form: str | None) -> str:
    by_hand = fenced(rerun_command(attempt, " \\\n  "))
    if form is None:
        return f"What was finished is reused, only the rest is done.\n\n{by_hand}"
    return (
        "What was finished is reused, only the rest is done: choose *Retry* in the menu ⋮ of the run's page, or "
        f"[open the form, filled in for this]({form}), or type\n\n{by_hand}"
    )


def _picture(record: BadRecord) -> str:
    from tasks.drawing import grey, picture_uris  # draws, which only a failure of this kind waits for

    if record.picture is None:
        return ""
    times = -(-PICTURE_PIXELS // record.picture.shape[1])
    [address] = picture_uris(grey(record.picture.repeat(times, 0).repeat(times, 1)[None]))
    return f"![row {record.row}]({address})"
