"""What is published: a run's subject, what its stages returned, and the draft that grows in a staging folder.

Here: their forms. Not here: what is written of them (evidence, story), and the run's name (the stage itself).
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.configuration import RunConfiguration
from schemas.files import HISTORY_FILE
from schemas.handles import Evaluation, Frozen, Sequences, Table, TrainedModel
from schemas.history import History

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.catalog import Dataset
    from schemas.champion import Judged
    from schemas.drift import Drifted
    from schemas.receipt import Receipt
    from tasks.store import Store


class StageTiming(Frozen):
    """How long a step took, and whether its output was there already."""

    step: str
    seconds: float
    reused: bool


@dataclass(frozen=True)
class Outcome:
    """Everything that the stages of one run returned."""

    tables: tuple[Table, Table]
    sequences: tuple[Sequences, Sequences]
    trained: TrainedModel
    evaluation: Evaluation
    judged: Judged
    drifted: Drifted


class Subject(Frozen):
    """What a run was about."""

    run: str
    created: datetime.datetime
    title: str
    homepage: str = ""
    licence: str = ""
    orientation: str
    configuration: RunConfiguration
    wrong_labels: tuple[int, ...] = ()  # rows of the test split that people have found labelled wrong
    parent: str | None = None
    started_from: str | None = None
    stated: str | None = None  # digest of what the catalog states of the data
    form: str | None = None  # address of the form of the Prefect UI that does a stage of it again

    @classmethod
    def about(
        cls,
        dataset: Dataset,
        configuration: RunConfiguration,
        run: str,
        created: datetime.datetime,
        **others: str | None,
    ) -> Subject:
        """A run of a dataset; `others` are the parent, the run that it began with, and the form."""
        return cls(
            run=run,
            created=created,
            title=dataset.title,
            homepage=dataset.homepage,
            licence=dataset.licence,
            orientation=dataset.orientation,
            wrong_labels=dataset.splits["test"].wrong_labels,
            configuration=configuration,
            stated=dataset.stated,
            **others,
        )


@dataclass(frozen=True)
class Draft:
    """A run that is being assembled: the staging folder it grows in, and all that goes into it."""

    folder: Path
    store: Store
    subject: Subject
    outcome: Outcome
    receipt: Receipt
    timings: tuple[StageTiming, ...]

    @property
    def began_with(self) -> str | None:
        """The run whose weights training began with; one that it was meant to begin with may not have fitted."""
        history = History.model_validate_json((self.folder / HISTORY_FILE).read_bytes())
        return self.subject.started_from if history.started_from else None
