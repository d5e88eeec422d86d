"""The retraining flow: its parameters, and what it does with the DAG.

Not here: the steps and their order (dag), how each is done and told (execution), what it would do (plan).
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_type_hints

from prefect import flow, get_run_logger
from prefect.context import TagsContext
from prefect.runtime import flow_run

from flows.attempts import Attempt, Attempts, mark_of
from flows.dag import STEPS, chain
from flows.datasets import resolved
from flows.dossier import journal_kept
from flows.execution import Execution, require_promotion
from flows.index import index_renewed
from flows.plan import foreseen, plan_in_short
from flows.prefect_log import make_log_readable
from flows.revision import form_filled_in, revised
from flows.shutdown import end_in_time
from flows.unchanged import NothingChangedError, require_change
from flows.warm_start import terms_of
from schemas.catalog import as_name, name_of_folder
from schemas.configuration import RunConfiguration
from schemas.errors import StepwiseError
from schemas.plan import STAGES, Stage
from schemas.policy import Policy
from schemas.presets import require_settings_of_preset
from tasks.code import code_digests
from tasks.download import require_one_moment, tell_of_halves
from tasks.promote import Promoted
from tasks.publish.draft import Subject
from tasks.stage import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schemas.catalog import Dataset
    from schemas.handles import SourceFile

LONGEST: Final = 60  # characters of a name in a run's, which is a file's: those have 255

logging.getLogger("stepwise").setLevel(logging.INFO)  # Prefect forwards it to the server
make_log_readable()


def _flow_run_name() -> str:
    given = flow_run.parameters
    configuration = RunConfiguration.model_validate(given["configuration"])
    # The same for every retry on a day, and told apart from the day's other runs as the published run is.
    return (
        f"{_called(configuration, given['data'])} {configuration.preset} {_now():%Y-%m-%d} {mark_of(str(flow_run.id))}"
    )


@flow(
    name="retrain",
    description="Downloads and verifies a dataset, trains an LSTM on it, evaluates it and publishes the model with the "
    "evidence that no sample was lost on the way.",
    flow_run_name=_flow_run_name,
    persist_result=True,
    result_serializer="json",
)
def retrain(  # noqa: PLR0913 - one parameter a field of the form
    configuration: RunConfiguration = RunConfiguration(),  # noqa: B008 - frozen
    data: Path | None = None,
    catalogs: tuple[Path, ...] = (),
    artifacts: Path = Path("artifacts"),
    policy: Policy = Policy(),  # noqa: B008
    rerun: tuple[Stage, ...] = (),
    rerun_only: bool = False,  # noqa: FBT001, FBT002
    of: str | None = None,
    plan_only: bool = False,  # noqa: FBT001, FBT002
) -> Promoted | None:
    """Run the whole DAG; what is there already is verified and reused.

    Args:
        configuration: What to train on what, and how.
        data: A folder of IDX files to use in place of the named dataset.
        catalogs: Further dataset catalogs of the user's own.
        artifacts: Where outputs and published runs are kept.
        policy: What to do about unchanged data, what training begins with, and how long it may take.
        rerun: Stages to do again even though their outputs are there, and with them what hangs on them.
        rerun_only: Only those stages; what follows is done again only if they give something else than before.
        of: The run that this one runs again, with the same configuration and data; a published one is never changed,
            this one becomes its revision.
        plan_only: Only tell what would be done, and why.
    """
    if "PREFECT__FLOW_RUN_ID" in os.environ:  # a worker's process for this run alone
        end_in_time(with_parent=True)
    artifacts = artifacts.absolute()
    parameters = {
        "configuration": configuration.model_dump(mode="json"),
        "data": str(data.absolute()) if data else None,
        "catalogs": [str(catalog.absolute()) for catalog in catalogs],
        "artifacts": str(artifacts),
        "policy": policy.model_dump(mode="json"),
    }
    attempt = _attempt(configuration, data, of, parameters).model_copy(
        update={"rerun": rerun, "rerun_only": rerun_only}
    )
    # The run is tagged, its tasks are not: for each tag of a task, Prefect asks the server for leave to begin.
    untagged = TagsContext(current_tags=set())
    with _held(artifacts, attempt) as attempt, journal_kept() as journal, untagged:
        execution = Execution(attempt, journal, Attempts(artifacts), _demands(rerun, attempt.flow_run, only=rerun_only))
        with execution.ended_well_or_told():
            dataset, configuration = resolved(configuration, data, catalogs)
            if of is None:  # the run that is run again has its settings, whatever has become of its preset
                require_settings_of_preset(configuration)
            policy = execution.decided(configuration)
            parent = revised(Attempts(artifacts), artifacts, of, parameters) if of else None
            subject = _subject(execution.attempt, configuration, dataset, policy, parent)
            return _gone_through(execution, dataset, configuration, policy, subject, plan_only=plan_only)


# `serve` hands the flow to another process by value, where the names in its annotations mean nothing.
retrain.fn.__annotations__ = get_type_hints(retrain.fn)


@contextlib.contextmanager
def _held(artifacts: Path, attempt: Attempt) -> Iterator[Attempt]:
    """Hold an attempt; where its store refuses that, no record and no dossier can be left, so the log says it."""
    with contextlib.ExitStack() as holding:
        try:
            held = holding.enter_context(Attempts(artifacts).held(attempt))
        except StepwiseError as error:
            get_run_logger().error("before the first step: %s", error)
            raise
        yield held


def _gone_through(
    execution: Execution,
    dataset: Dataset,
    configuration: RunConfiguration,
    policy: Policy,
    subject: Subject,
    *,
    plan_only: bool,
) -> Promoted | None:
    """Foresee all steps, then do them; None where only the plan was asked for, or nothing changed."""
    artifacts = execution.artifacts
    for step in STEPS:  # now: what their sources say in hours is not what was imported to make the outputs
        code_digests(step.fn.__module__)
    terms = terms_of(policy, artifacts, configuration)
    plan = foreseen(artifacts, dataset, configuration, subject, terms, execution.demands)
    log.info("plan: %s", plan_in_short(plan))
    if plan_only:
        execution.planned(plan)
        return None
    skipping = policy.when_unchanged == "skip" and not any(map(execution.demands, STAGES))
    execution.before_parsing = partial(_look_at_files, artifacts, configuration, dataset, skipping=skipping)
    try:
        promoted: Promoted = chain(execution, artifacts, dataset, configuration, subject, execution.timings, terms)
    except NothingChangedError as nothing:
        execution.skipped(nothing.run, dataset.name)
        index_renewed(artifacts)
        return None
    execution.published(promoted, plan)
    index_renewed(artifacts)
    require_promotion(promoted.entry, configuration)
    return promoted


def _look_at_files(
    artifacts: Path, configuration: RunConfiguration, dataset: Dataset, files: list[SourceFile], *, skipping: bool
) -> None:
    """Look at the files that were received, before they are parsed: of one moment, and where asked for, others."""
    require_one_moment(dataset, files)
    tell_of_halves(files)
    if skipping:
        require_change(artifacts, configuration, dataset, files)


def _demands(rerun: tuple[Stage, ...], demand: str, *, only: bool) -> Callable[[str], str | None]:
    """Which stages are demanded anew, under which name: the same for every retry of a flow run."""
    first = min((STAGES.index(stage) for stage in rerun), default=len(STAGES))
    demanded = set(rerun) if only else set(STAGES[first:])
    return lambda stage: demand if stage in demanded else None


def _attempt(
    configuration: RunConfiguration, data: Path | None, parent: str | None, parameters: dict[str, Any]
) -> Attempt:
    created, flow_run_id = _now(), str(flow_run.id)
    dataset = _called(configuration, data)
    return Attempt(
        run=f"{created:%Y%m%d-%H%M%S}-{dataset[:LONGEST]}-{as_name(configuration.preset)[:LONGEST]}-{mark_of(flow_run_id)}",
        flow_run=flow_run_id,
        created=created,
        dataset=dataset,
        preset=configuration.preset,
        parameters=parameters,
        tries=max(1, flow_run.run_count),
        parent=parent,
    )


def _called(configuration: RunConfiguration, data: Path | str | None) -> str:
    """What the data are called in names, before anybody knows whether they are there."""
    return name_of_folder(Path(data)) if data else as_name(configuration.dataset)


def _subject(
    attempt: Attempt, configuration: RunConfiguration, dataset: Dataset, policy: Policy, parent: str | None
) -> Subject:
    return Subject.about(
        dataset,
        configuration,
        attempt.run,
        attempt.created,
        parent=parent,
        started_from=policy.start_from,
        form=form_filled_in(attempt, ["evaluate"]),
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
