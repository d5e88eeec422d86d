"""The DAG on one screen: download, parse, validate, reshape, train, evaluate, publish.

Here: what runs in which order and what a failure leaves behind. Not here: what any stage does (tasks).
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import secrets
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from schemas.catalog import Dataset, dataset_of_folder, load_catalog
from schemas.configuration import RunConfiguration
from schemas.errors import StepwiseError
from schemas.handles import ROLES, SPLITS, PublishedRun
from schemas.presets import DEFAULT_PRESET, configured, presets
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.parse import parse
from tasks.publish import Outcome, StageTiming, Subject, publish
from tasks.publish.cards import as_text
from tasks.reshape import reshape
from tasks.stage import Advanced, Finished, listening
from tasks.train import train
from tasks.validate import validate

if TYPE_CHECKING:
    from collections.abc import Iterator

logging.getLogger("stepwise").setLevel(logging.INFO)  # Prefect forwards it to the server


@flow(
    name="retrain",
    description="Downloads and verifies a dataset, trains an LSTM on it, evaluates it and publishes the model with the "
    "evidence that no sample was lost on the way.",
    flow_run_name="retrain {configuration.dataset} {configuration.preset}",
    persist_result=True,
    result_serializer="json",
)
def retrain(
    configuration: RunConfiguration = RunConfiguration(),  # noqa: B008 - frozen
    data: Path | None = None,
    catalogs: tuple[Path, ...] = (),
    artifacts: Path = Path("artifacts"),
) -> PublishedRun:
    """Run the whole DAG.

    Args:
        configuration: What to train on what, and how.
        data: A folder of IDX files to use in place of the named dataset.
        catalogs: Further dataset catalogs of the user's own.
        artifacts: Where outputs and published runs are kept.
    """
    artifacts = artifacts.absolute()
    with _journal() as timings, _failures_shown(command_of(configuration, data, catalogs, artifacts)):
        dataset = dataset_for(configuration, data, catalogs)
        configuration = configuration.model_copy(update={"dataset": dataset.name})
        require_timesteps(configuration, dataset)
        files = {(split, role): download.submit(artifacts, dataset, split, role) for split in SPLITS for role in ROLES}
        parsed = [
            parse.submit(  # type: ignore[call-overload] # futures: Prefect waits for them and passes their results
                artifacts,
                split,
                files[split, "images"],
                files[split, "labels"],
                dataset.splits[split].labels.label_column,
            )
            for split in SPLITS
        ]
        for file in files.values():
            file.result()  # a failed download is the error to show, not the parse that never began
        tables = (parsed[0].result(), parsed[1].result())
        receipt = validate(artifacts, dataset, tables)
        shaped = [reshape.submit(artifacts, table, receipt, configuration.reshape) for table in tables]
        sequences = (shaped[0].result(), shaped[1].result())
        trained = train(
            artifacts,
            sequences[0],
            configuration.reshape,
            configuration.network,
            configuration.training,
            len(os.sched_getaffinity(0)),
        )
        evaluation = evaluate(artifacts, sequences[1], trained, configuration.evaluation, configuration.training.loss)
        outcome = Outcome(tables=tables, sequences=sequences, trained=trained, evaluation=evaluation)
        return publish(artifacts, _subject(configuration, dataset), outcome, tuple(timings))


def dataset_for(configuration: RunConfiguration, data: Path | None, catalogs: tuple[Path, ...]) -> Dataset:
    """The dataset that a run is about: the user's folder, or the one of that name; never another."""
    return dataset_of_folder(data) if data else load_catalog(catalogs).dataset(configuration.dataset)


def require_timesteps(configuration: RunConfiguration, dataset: Dataset) -> None:
    """Raise ConfigurationError now where the catalog states an image's shape and T does not divide its pixels."""
    shape = dataset.file("train", "images").shape
    if shape:
        pixels = 1
        for extent in shape:
            pixels *= extent
        configuration.reshape.features(pixels)


def _subject(configuration: RunConfiguration, dataset: Dataset) -> Subject:
    created = datetime.datetime.now(datetime.UTC)
    run = f"{created:%Y%m%d-%H%M%S}-{dataset.name}-{configuration.preset}-{secrets.token_hex(2)}"
    return Subject(
        run=run,
        created=created,
        title=dataset.title,
        orientation=dataset.orientation,
        configuration=configuration,
    )


@contextlib.contextmanager
def _journal() -> Iterator[list[StageTiming]]:
    """The steps' timings, as they finish."""
    timings: list[StageTiming] = []

    def note(event: Finished | Advanced) -> None:
        if isinstance(event, Finished):
            timings.append(StageTiming(step=event.step, seconds=round(event.seconds, 3), reused=event.reused))

    with listening(note):
        yield timings


@contextlib.contextmanager
def _failures_shown(command: str) -> Iterator[None]:
    """Leave an artifact that says what failed, what was expected, and the command to run again."""
    try:
        yield
    except StepwiseError as error:
        create_markdown_artifact(key="failure", markdown=failure_card(error, command), description=error.found[:200])
        raise
    except Exception as error:
        unforeseen = StepwiseError(f"{type(error).__name__}: {error}", "", "The flow run's log has the traceback")
        create_markdown_artifact(key="failure", markdown=failure_card(unforeseen, command), description=str(unforeseen))
        raise


def failure_card(error: StepwiseError, command: str) -> str:
    """A failure in markdown; what comes from data is escaped, so that it cannot be read as markup."""
    texts = {"Found": error.found, "Expected": error.expected, "What to do": error.remedy, "File": error.file}
    parts = [f"### {name}\n\n{as_text(text)}" for name, text in texts.items() if text]
    lines = command.replace(" --", " \\\n  --").replace("~~~", "")
    again = f"### Run again\n\nWhat was finished is reused, only the rest is done.\n\n~~~text\n{lines}\n~~~"
    return "\n\n".join(["# The run stopped", *parts, again])


def command_of(configuration: RunConfiguration, data: Path | None, catalogs: tuple[Path, ...], artifacts: Path) -> str:
    """The `stepwise run` that does the same, for a shell."""
    preset = configuration.preset if configuration.preset in presets() else DEFAULT_PRESET
    usual, chosen = (each.model_dump(mode="json") for each in (configured(preset), configuration))
    settings = [
        f"{part}.{key}={_toml(value)}"
        for part in ("reshape", "network", "training", "evaluation")
        for key, value in chosen[part].items()
        if value != usual[part][key]
    ]
    words = ["stepwise", "run", "--preset", preset]
    words += ["--data", str(data)] if data else ["--dataset", configuration.dataset]
    words += [word for catalog in catalogs for word in ("--catalog", str(catalog))]
    words += [word for setting in settings for word in ("--set", setting)]
    return shlex.join([*words, "--artifacts", str(artifacts)])


def _toml(value: object) -> str:
    """A value as `--set` reads it. No preset sets what may be None, so None never has to be written."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return json.dumps(value)
