"""The DAG on one screen: download, parse, validate, reshape, drift, train, evaluate, compare, publish, promote.

It is written once and read twice: a run does each step, a plan foresees it. Not here: what any stage does (tasks).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, Protocol

from schemas.handles import ROLES, SPLITS
from tasks.champions import Champions
from tasks.compare import Contest, compare
from tasks.download import download
from tasks.drift import drift
from tasks.evaluate import evaluate
from tasks.parse import parse
from tasks.promote import promote
from tasks.publish import publish
from tasks.publish.draft import Outcome, StageTiming
from tasks.reshape import reshape
from tasks.train import Recipe, Terms, train
from tasks.validate import validate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from prefect import Task

    from schemas.catalog import Dataset
    from schemas.configuration import RunConfiguration
    from tasks.publish.draft import Subject


STEPS: Final = (download, parse, validate, reshape, drift, train, evaluate, compare, publish, promote)


class Doing(Protocol):
    """What is done with each step: its result, a future of it, or what is foreseen of it."""

    def __call__(self, task: Task[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - any of these
        """Do one step with the results of earlier ones."""


def chain(
    do: Doing,
    artifacts: Path,
    dataset: Dataset,
    configuration: RunConfiguration,
    subject: Subject,
    timings: Sequence[StageTiming] = (),
    terms: Terms = Terms(),  # noqa: B008 - frozen
) -> Any:  # noqa: ANN401 - as `do` gives it
    """Go through all steps; returns what `do` gives for the last one."""
    tables, receipt = checked(do, artifacts, dataset)
    sequences, test_sequences = (do(reshape, artifacts, table, receipt, configuration.reshape) for table in tables)
    place = Champions(artifacts, configuration.dataset)
    drifted = do(drift, artifacts, tables[0], receipt, place.champion(), configuration.drift)
    recipe = Recipe(configuration.reshape, configuration.network, configuration.training)
    trained = do(train, artifacts, sequences, recipe, processors(), terms)
    loss = configuration.training.loss
    evaluation = do(evaluate, artifacts, test_sequences, trained, configuration.evaluation, loss, sequences)
    contest = Contest(tables, test_sequences, trained, evaluation, place.champion(), terms.start)
    judged = do(compare, artifacts, contest, configuration.promotion)
    outcome = Outcome(tables, (sequences, test_sequences), trained, evaluation, judged, drifted)
    published = do(publish, artifacts, subject, outcome, tuple(timings))
    return do(promote, artifacts, configuration.dataset, published, judged)


def checked(do: Doing, artifacts: Path, dataset: Dataset) -> tuple[tuple[Any, Any], Any]:
    """The part that no setting of a run changes: both tables, and the receipt of what they hold, as `do` gives them."""
    files = {(split, role): do(download, artifacts, dataset, split, role) for split in SPLITS for role in ROLES}
    train_table, test_table = (
        do(
            parse,
            artifacts,
            split,
            files[split, "images"],
            files[split, "labels"],
            dataset.splits[split].labels.label_column,
        )
        for split in SPLITS
    )
    tables = (train_table, test_table)
    return tables, do(validate, artifacts, dataset, tables)


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))
