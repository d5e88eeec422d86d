"""The manifest of a published run: what it is, and size and digest of each of its files. Here: its form.

It is written last of all; a folder without one is no run. Not here: writing and comparing it (tasks/published).
"""

from __future__ import annotations

from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict

from schemas.handles import FileSeal, Sha256
from schemas.metrics import Interval, Probability

FORMAT: Final = 1


class Facts(BaseModel):
    """What a run states of itself.

    Attributes:
        format: Of the folder; this version knows `FORMAT`.
        run: Its name.
        created: When it began.
        dataset: What it learned from.
        preset: The name of its settings.
        accuracy: Share of the test samples that were answered right.
        interval: 95 %, Wilson's.
        weights: Digest of the model's.
        test: Digest of the test samples' table; runs of earlier versions do not state it.
        parent: The run that it ran again.
        started_from: The run whose weights it began with.
        stated: Digest of what the catalog stated of the data; runs of earlier versions do not state it.
    """

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    run: str
    created: AwareDatetime
    dataset: str
    preset: str
    accuracy: Probability
    interval: Interval
    weights: Sha256
    test: Sha256 | None = None
    parent: str | None = None
    started_from: str | None = None
    stated: Sha256 | None = None


class Manifest(Facts):
    """The facts, and a seal for every file by its name in the folder."""

    files: dict[str, FileSeal]
