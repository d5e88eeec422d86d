"""A run that goes on: each step done, its stations told, and its end put on record, however it ends.

Not here: the steps and their order (dag), what a step would do (plan), what a failure says (dossier).
"""

from __future__ import annotations

import contextlib
import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from flows.attempts import Attempt, Attempts, Problem
from flows.dossier import Journal, as_error, dossier
from flows.drift_card import drift_card, drift_in_short
from flows.events import tell
from flows.index import index_renewed
from flows.plan import plan_card, plan_in_short
from flows.revision import form_filled_in, stages_left
from flows.verdict_card import verdict_card
from flows.warm_start import decided
from schemas.drift import Drift, DriftedError, DriftLimits
from schemas.errors import PromotionRefusedError, StorageError
from schemas.files import DRIFT_FILE
from schemas.handles import ROLES, SPLITS
from schemas.ledger import CountsBrokenError
from schemas.plan import Planned, Stage, stages_named
from schemas.policy import Policy
from tasks.documents import open_document
from tasks.promote import re_verified
from tasks.publish.cards import show_run, show_standing, verdict_of
from tasks.publish.draft import StageTiming
from tasks.stage import log
from tasks.store import Store, handles_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prefect import Task
    from prefect.futures import PrefectFuture
    from pydantic import BaseModel

    from schemas.champion import Entry
    from schemas.configuration import RunConfiguration
    from schemas.drift import Drifted
    from schemas.handles import SourceFile
    from tasks.promote import Promoted

SIDE_BY_SIDE: Final = ("download", "parse", "reshape")
DOWNLOADS: Final = len(SPLITS) * len(ROLES)


class Execution:
    """A run that goes on: does each step, and tells how it ended."""

    def __init__(
        self, attempt: Attempt, journal: Journal, attempts: Attempts, demands: Callable[[str], str | None]
    ) -> None:
        self.attempt, self._journal, self._attempts = attempt, journal, attempts
        self.artifacts = Path(attempt.parameters["artifacts"])
        self.demands = demands
        self.timings = Timings(journal)
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
        if stage == "drift":
            self._drifted(result)
        if stage == "validate":
            tell("stepwise.data.verified", self.attempt, {"receipt": result.digest, "rows": result.rows})
        return result

    def _drifted(self, drifted: Drifted) -> None:
        """Show how the training data compare with the champion's."""
        self._drift_shown(open_document(Store(self.artifacts), drifted.drift, DRIFT_FILE, Drift))

    def _drift_shown(self, drift: Drift) -> None:
        for shift in drift.shifts:
            if shift.level == "warn":
                log.warning("drift: %s: index %.2f: %s", shift.what, shift.index, shift.found)
        limits = DriftLimits.model_validate(self.attempt.parameters["configuration"]["drift"])
        create_markdown_artifact(key="drift", markdown=drift_card(drift, limits), description=drift_in_short(drift))
        if drift.worst != "none":
            payload = {"worst": drift.worst, "shifts": [shift.model_dump() for shift in drift.shifts]}
            tell("stepwise.data.drifted", self.attempt, payload)

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
            with contextlib.suppress(StorageError):  # what stops it is what is to be told
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
        index_renewed(self.artifacts)
        if isinstance(error, DriftedError):
            self._drift_shown(error.drift)
        left, only = stages_left(self.attempt, self._at)
        form = form_filled_in(self.attempt, left, only=only)
        card = dossier(told, self.attempt, self._journal, self._digests(), form)
        create_markdown_artifact(key="dossier", markdown=card, description=told.found[:200])

    def planned(self, plan: Sequence[Planned]) -> None:
        """Show the plan of a run that only plans."""
        create_markdown_artifact(key="plan", markdown=plan_card(plan, {}), description=plan_in_short(plan))
        self._end(outcome="planned")

    def published(self, promoted: Promoted, plan: Sequence[Planned]) -> None:
        """Show plan against actual, where nothing had to be published the run that stands, and the verdict."""
        published = promoted.published
        stood = published.run != self.attempt.run
        self._end(outcome="unchanged" if stood else "published", published=published.run)
        actual = {event.step: event.reused for event in self._journal.finished}
        create_markdown_artifact(key="plan", markdown=plan_card(plan, actual), description=plan_in_short(plan))
        folder, form = self.artifacts / published.place, form_filled_in(self.attempt, ["evaluate"])
        if stood:
            show_standing(folder, form)
        else:
            if actual.get("publish"):  # an earlier try may have been killed before it showed what it had published
                show_run(folder, form)
            payload = {"accuracy": published.accuracy, "manifest": published.manifest, "place": published.place}
            tell("stepwise.model.published", self.attempt, payload)
        self._judged(promoted.entry, folder)

    def _judged(self, entry: Entry, run: Path) -> None:
        """Show what was decided about the champion's place, and why."""
        description = f"{entry.decision}: {'; '.join(entry.reasons)}"[:200]
        card = verdict_card(entry, entry.verdict or verdict_of(run))
        create_markdown_artifact(key="verdict", markdown=card, description=description)
        changed = entry.champion != entry.was
        payload = {"decision": entry.decision, "reasons": list(entry.reasons), "champion": entry.champion}
        tell("stepwise.champion.promoted" if changed else "stepwise.champion.kept", self.attempt, payload)

    def skipped(self, run: str, dataset: str) -> None:
        """Say that nothing changed, and which run stands."""
        self._end(outcome="skipped", published=run)
        told = f"Nothing changed since {run}: no file's digest and no setting. The run was skipped, as its policy says."
        again = form_filled_in(self.attempt, ["evaluate"])
        link = f"\n\n[Open the form, filled in to evaluate it again]({again})" if again else ""
        create_markdown_artifact(key="summary", markdown=f"{told}\n\n`{run}` stands.{link}", description=told)
        log.info(told)
        re_verified(Store(self.artifacts), dataset, run)
        tell("stepwise.run.skipped", self.attempt, {"stands": run})

    def _end(self, **changes: object) -> None:
        self.attempt = self.attempt.model_copy(update={"ended": _now(), "problem": None, **changes})
        self._attempts.keep(self.attempt)

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


def require_promotion(entry: Entry, configuration: RunConfiguration) -> None:
    """Raise PromotionRefusedError where promotion was demanded and the run's model is not the champion's."""
    if configuration.promotion.demanded and entry.refused:
        raise PromotionRefusedError(
            f"{entry.run} is published and was not promoted: {'; '.join(entry.reasons)}",
            "a champion, since promotion.demanded is set",
            f"Look at its report, then leave {entry.champion or 'the place empty'} as it is, or promote it by hand: "
            f"stepwise champion promote {entry.run} --reason '…'",
        )


class Timings(list[StageTiming]):
    """The steps' timings so far, read when publish begins."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def __iter__(self) -> Iterator[StageTiming]:
        return iter(
            StageTiming(step=event.step, seconds=round(event.seconds, 3), reused=event.reused)
            for event in self._journal.finished
        )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
