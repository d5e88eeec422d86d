"""The errors that a person meets. Here: what each carries and its exit code; not here: who catches and prints them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from schemas.visible import visible_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class StepwiseError(Exception):
    """One paragraph for a person: what was found, what was expected, what to do, and the file it is about.

    The four texts are also kept apart, so that a dossier or a JSON answer can show them as fields. `step` is the step
    of a run that it stopped, "reshape train"; None outside of one.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str, expected: str, remedy: str, file: str | None = None) -> None:
        super().__init__(found, expected, remedy, file)
        self.found = found
        self.expected = expected
        self.remedy = remedy
        self.file = file
        self.step: str | None = None  # of a run, where it happened in one

    def __str__(self) -> str:
        """Join the parts to one paragraph; a colon and a space never follow an empty part."""
        place = f"{self.file}: " if self.file else ""
        parts = [f"{place}{self.found}", f"Expected: {self.expected}" if self.expected else "", self.remedy]
        return visible_lines(" ".join(_sentence(part) for part in parts if part))


class ConfigurationError(StepwiseError):
    """The command or the configuration is wrong."""

    exit_code = 2


@dataclass(frozen=True)
class BadRecord:
    """One record that breaks its contract.

    Attributes:
        file: The file it stands in, or what else holds it.
        row: Its place there, counted from 0.
        value: What stands there.
        wrong: What is wrong with it.
        picture: The record's image (rows, columns) uint8, where it has one that can be shown.
    """

    file: str
    row: int
    value: str
    wrong: str
    picture: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)


class DataError(StepwiseError):
    """The data is wrong: a file that is not IDX, counts that do not agree, rows outside their contract.

    Where single records are wrong, the first of them come with it.
    """

    exit_code = 3

    def __init__(
        self, found: str, expected: str, remedy: str, file: str | None = None, records: Sequence[BadRecord] = ()
    ) -> None:
        super().__init__(found, expected, remedy, file)
        self.records = tuple(records)


class SourceError(StepwiseError):
    """No source of a file could be reached, or none gave the bytes it should."""

    exit_code = 4


class StorageError(StepwiseError):
    """An output is damaged, of another format version, or cannot be written."""

    exit_code = 5


class PromotionRefusedError(StepwiseError):
    """Promotion was demanded and refused."""

    exit_code = 6


class BudgetSpentError(StepwiseError):
    """The wall time that was given is over; what was done is kept, and a rerun goes on from there."""


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
