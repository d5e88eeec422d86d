"""The retraining flow: its parameters, what it does with the DAG, and what it leaves behind, however it ends.

Not here: the steps and their order (dag), what a step would do (plan), what a failure says (dossier).
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_type_hints

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows.attempts import Attempt, Attempts, Problem
from flows.dag import chain
from flows.dossier import Journal, as_error, dossier, journal_kept
from flows.ending import end_in_time
from flows.events import tell
from flows.plan import Foresight
from flows.revision import form_filled_in, revised
from flows.start import decided, weights_of
from flows.story import tell_the_story
from flows.unchanged import NothingChangedError, require_change
from schemas.catalog import Dataset, dataset_of_folder, load_catalog
from schemas.configuration import RunConfiguration
from schemas.errors import StorageError
from schemas.handles import ROLES, SPLITS, PublishedRun
from schemas.ledger import CountsBrokenError
from schemas.plan import STAGES, Planned, Stage, stages_named
from schemas.policy import Policy
from tasks.publish import StageTiming, Subject
from tasks.publish.cards import as_text, show_standing
from tasks.stage import log
from tasks.store import handles_in
from tasks.train import Terms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prefect import Task
    from prefect.futures import PrefectFuture
    from pydantic import BaseModel

    from schemas.handles import SourceFile

logging.getLogger("stepwise").setLevel(logging.INFO)  # Prefect forwards it to the server
tell_the_story()

SIDE_BY_SIDE: Final = ("download", "parse", "reshape")
DOWNLOADS: Final = len(SPLITS) * len(ROLES)


def _flow_run_name() -> str:
    given = flow_run.parameters
    configuration = RunConfiguration.model_validate(given["configuration"])
    # The same for every retry on a day, and told apart from the day's other runs as the published run is.
    return f"{_called(configuration, given['data'])} {configuration.preset} {_now():%Y-%m-%d} {flow_run.id[:4]}"


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
) -> PublishedRun | None:
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
    attempt = _attempt(configuration, data, of, parameters)
    with Attempts(artifacts).held(attempt) as attempt, journal_kept() as journal:
        going = _Going(attempt, journal, Attempts(artifacts), _demands(rerun, attempt.flow_run, only=rerun_only))
        with going.ended_well_or_told():
            dataset = dataset_for(configuration, data, catalogs)
            configuration = configuration.model_copy(update={"dataset": dataset.name})
            require_timesteps(configuration, dataset)
            policy = going.decided(configuration)
            terms = Terms(weights_of(policy, artifacts, configuration), policy.budget_minutes)
            parent = revised(Attempts(artifacts), artifacts, of, parameters) if of else None
            foresight = Foresight(going.demands)
            subject = _subject(going.attempt, configuration, dataset, policy, parent)
            chain(foresight, artifacts, dataset, configuration, subject, terms=terms)
            log.info("plan: %s", plan_in_short(foresight.planned))
            if plan_only:
                going.planned(foresight.planned)
                return None
            if policy.when_unchanged == "skip" and not rerun:
                going.before_parsing = partial(require_change, artifacts, configuration)
            try:
                published: PublishedRun = chain(going, artifacts, dataset, configuration, subject, going.timings, terms)
            except NothingChangedError as nothing:
                going.skipped(nothing.run)
                return None
            going.published(published, foresight.planned, artifacts)
            return published


# `serve` hands the flow to another process by value, where the names in its annotations mean nothing.
retrain.fn.__annotations__ = get_type_hints(retrain.fn)


class _Going:
    """A run that goes on: does each step, and tells how it ended."""

    def __init__(
        self, attempt: Attempt, journal: Journal, attempts: Attempts, demands: Callable[[str], str | None]
    ) -> None:
        self.attempt, self._journal, self._attempts = attempt, journal, attempts
        self.demands = demands
        self.timings = _Timings(journal)
        self._futures: list[tuple[Stage, PrefectFuture[Any]]] = []
        self._at: Stage | None = None  # the stage whose result is awaited: where it does not come, that one failed
        self._results: list[BaseModel] = []
        self.before_parsing: Callable[[list[SourceFile]], None] = lambda _: None

    def __call__(self, task: Task[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - a future or a result
        """Do one step: side by side with its kind where there are several, else here and now."""
        [stage] = stages_named([task.name])
        anew = self.demands(stage)
        if stage == "parse" and len(self._futures) == DOWNLOADS:
            self.before_parsing(list(self._awaited()))
        if stage in SIDE_BY_SIDE:
            future = task.submit(*arguments, anew=anew)
            self._futures.append((stage, future))
            return future
        for _ in self._awaited():  # the first that failed is the error to show, not what it kept from beginning
            pass
        self._at = stage
        result: Any = task(*arguments, anew=anew)
        self._results.append(result)
        if stage == "validate":
            tell("stepwise.data.verified", self.attempt, {"receipt": result.digest, "rows": result.rows})
        return result

    def decided(self, configuration: RunConfiguration) -> Policy:
        """The policy with what it left open decided; kept in the record, which a retry reads in place of the form."""
        given = self.attempt.parameters
        policy = decided(Policy.model_validate(given["policy"]), Path(given["artifacts"]), configuration)
        parameters = {**given, "policy": policy.model_dump(mode="json")}
        self.attempt = self.attempt.model_copy(update={"parameters": parameters})
        self._attempts.keep(self.attempt)
        return policy

    def _awaited(self) -> Iterator[Any]:
        """The results of the steps that go side by side, in their order."""
        for stage, future in self._futures:
            self._at = stage
            yield future.result()

    @contextlib.contextmanager
    def ended_well_or_told(self) -> Iterator[None]:
        """Leave a dossier where the run fails, and a record of how it ended in any case."""
        try:
            yield
        except Exception as error:
            self._failed(error)
            raise
        except BaseException as stop:
            problem = Problem(step=next(iter(self._journal.under_way), None), found=f"stopped ({type(stop).__name__})")
            self._end(outcome="stopped", problem=problem)
            raise

    def _failed(self, error: Exception) -> None:
        """Put a failure on record, then into the log and a dossier, for which a server may have to be reached."""
        told = as_error(error)
        if isinstance(error, CountsBrokenError):
            tell("stepwise.counts.broken", self.attempt, {"found": told.found, "expected": told.expected})
        where = told.step or next(iter(self._journal.under_way), None)
        problem = Problem(step=where, found=told.found, expected=told.expected, remedy=told.remedy, file=told.file)
        with contextlib.suppress(StorageError):  # a disk that is full; then this is what to tell
            self._end(outcome="failed", problem=problem)
        get_run_logger().error("%s: %s", where or "before the first step", told)
        form = form_filled_in(self.attempt, self._at, only=True)
        card = dossier(told, self.attempt, self._journal, self._digests(), form)
        create_markdown_artifact(key="dossier", markdown=card, description=told.found[:200])

    def planned(self, plan: Sequence[Planned]) -> None:
        """Show the plan of a run that only plans."""
        create_markdown_artifact(key="plan", markdown=plan_card(plan, {}), description=plan_in_short(plan))
        self._end(outcome="planned")

    def published(self, published: PublishedRun, plan: Sequence[Planned], artifacts: Path) -> None:
        """Show plan against actual, and, where nothing had to be published, the run that stands."""
        actual = {event.step: event.reused for event in self._journal.finished}
        create_markdown_artifact(key="plan", markdown=plan_card(plan, actual), description=plan_in_short(plan))
        stood = published.run != self.attempt.run
        if stood:
            show_standing(artifacts / published.place, form_filled_in(self.attempt, "evaluate"))
        else:
            payload = {"accuracy": published.accuracy, "manifest": published.manifest, "place": published.place}
            tell("stepwise.model.published", self.attempt, payload)
        self._end(outcome="unchanged" if stood else "published", published=published.run)

    def skipped(self, run: str) -> None:
        """Say that nothing changed, and which run stands."""
        told = f"Nothing changed since {run}: no file's digest and no setting. The run was skipped, as its policy says."
        again = form_filled_in(self.attempt, "evaluate")
        link = f"\n\n[Open the form, filled in to evaluate it again]({again})" if again else ""
        create_markdown_artifact(key="summary", markdown=f"{told}\n\n`{run}` stands.{link}", description=told)
        log.info(told)
        tell("stepwise.run.skipped", self.attempt, {"stands": run})
        self._end(outcome="skipped", published=run)

    def _end(self, **changes: object) -> None:
        self._attempts.keep(self.attempt.model_copy(update={"ended": _now(), "problem": None, **changes}))

    def _digests(self) -> dict[str, str]:
        """What was finished, by its digest."""
        results = [future.result() for _, future in self._futures if future.state.is_completed()]
        digests: dict[str, str] = {}
        for result in (*results, *self._results):
            whose = " ".join(getattr(result, name) for name in ("split", "role") if hasattr(result, name))
            for handle in handles_in(result.model_dump(mode="json")):
                said = f"{whose}: {handle.kind}" if whose else handle.kind
                digests.setdefault(handle.digest, f"{said}, {handle.rows:,} rows")
        return digests


class _Timings(list[StageTiming]):
    """The steps' timings so far, read when publish begins."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def __iter__(self) -> Iterator[StageTiming]:
        return iter(
            StageTiming(step=event.step, seconds=round(event.seconds, 3), reused=event.reused)
            for event in self._journal.finished
        )


def plan_card(plan: Sequence[Planned], actual: dict[str, bool]) -> str:
    """A plan in markdown, with what happened where it has happened."""
    happened = {step: "reused" if reused else "ran" for step, reused in actual.items()}
    lines = [
        "| Step | Plan | Why |" + (" Happened |" if actual else ""),
        "| --- | --- | --- |" + " --- |" * bool(actual),
    ]
    for planned in plan:
        row = f"| {planned.step} | {planned.verdict} | {as_text(planned.why)} |"
        lines.append(row + (f" {happened.get(planned.step, 'did not begin')} |" if actual else ""))
    return "\n".join(lines)


def plan_in_short(plan: Sequence[Planned]) -> str:
    """A plan in one line."""
    counts = {verdict: sum(planned.verdict == verdict for planned in plan) for verdict in ("run", "follows", "reuse")}
    return f"{counts['run']} to run, {counts['follows']} that follow from them, {counts['reuse']} to reuse"


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
        run=f"{created:%Y%m%d-%H%M%S}-{dataset}-{configuration.preset}-{flow_run_id[:4]}",
        flow_run=flow_run_id,
        created=created,
        dataset=dataset,
        preset=configuration.preset,
        parameters=parameters,
        parent=parent,
    )


def _called(configuration: RunConfiguration, data: Path | str | None) -> str:
    """What the data are called in names."""
    name = Path(data).absolute().name if data else configuration.dataset
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "folder"


def _subject(
    attempt: Attempt, configuration: RunConfiguration, dataset: Dataset, policy: Policy, parent: str | None
) -> Subject:
    return Subject(
        run=attempt.run,
        created=attempt.created,
        title=dataset.title,
        orientation=dataset.orientation,
        configuration=configuration,
        parent=parent,
        started_from=policy.start_from,
        form=form_filled_in(attempt, "evaluate"),
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
