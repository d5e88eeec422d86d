"""Compare: a model against the champion, on the same test samples; the verdict says whether it deserves the place.

Not here: how either answered (answers), the statistics (tasks/proportions), who gets the place in the end (promote).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefect import task

from schemas.champion import Champion, Decision, Demands, Finding, Judged, Paired, Verdict
from schemas.files import HISTORY_FILE, PREDICTIONS_FILE, RUNS, VERDICT_FILE
from schemas.history import History
from tasks.compare.answers import (
    answers_in,
    answers_of_champion,
    metrics_of,
    require_same_classes,
)
from tasks.compare.findings import alone, better, calibrated, classes_kept, paired
from tasks.compare.incomparable import Incomparable
from tasks.compare.seen import seen_by
from tasks.documents import keep_document, open_document
from tasks.learned import record_in
from tasks.mirror import Mirror
from tasks.published import state
from tasks.receipts import demand_seal, open_receipt
from tasks.stage import Key, once
from tasks.store import INITIAL_WEIGHTS, Store

if TYPE_CHECKING:
    from schemas.handles import Evaluation, Handle, Sequences, Table, TrainedModel

SAME: Final = Finding(
    what="another model than the champion", holds=False, found="its weights are the champion's own", of_itself=True
)


@dataclass(frozen=True)
class Contest:
    """A model that was evaluated, and who holds the place that it may get.

    Attributes:
        tables: Of the training split and of the test split.
        sequences: What reshape made of the test split for the new model.
        trained: The new model.
        evaluation: How it answered.
        champion: Who holds the place; None: nobody.
        start: The published weights that training was given to begin with.
    """

    tables: tuple[Table, Table]
    sequences: Sequences
    trained: TrainedModel
    evaluation: Evaluation
    champion: Champion | None
    start: Handle | None = None

    @property
    def test_table(self) -> Table:
        """The test split's."""
        return self.tables[1]

    @property
    def opponent(self) -> Champion | None:
        """The champion where it is another model: the one that became champion is not compared with itself."""
        same = self.champion and self.champion.weights == self.trained.model.digest
        return None if same else self.champion


def key_of(
    artifacts: Path,
    contest: Contest,
    demands: Demands,
) -> Key[Judged]:
    """What a verdict depends on: both models, the test samples and what is demanded, not what follows from it.

    The champion is compared with nobody, so who held the place before is no part of its key; that it is champion is.
    The receipt states the dataset and its classes' names: equal bytes under others are judged by themselves.
    """
    opponent, store = contest.opponent, Store(artifacts)
    return Key(
        step="compare",
        stage="compare",
        form=Judged,
        module=__name__,
        inputs={
            "test table": contest.test_table.table.digest,
            "weights": contest.trained.model.digest,
            "evaluation": contest.evaluation.evaluation.digest,
            "receipt": contest.sequences.receipt.digest,
            "champion": state(store, opponent) if opponent else _itself(store, contest),
            **_learned_before(store, contest),
        },
        settings={"promotion": demands.model_dump(mode="json", exclude={"demanded"})},
        libraries=("tensorflow", "keras", "numpy"),
    )


def _learned_before(store: Store, contest: Contest) -> dict[str, str]:
    """What says which images do not count: the records of the champion and of the run that training began with."""
    learned = {}
    if opponent := contest.opponent:
        learned["learned by the champion"] = record_in(store, store.root / RUNS / opponent.run)
    if start := contest.start:
        learned |= {INITIAL_WEIGHTS: start.digest, "learned before": record_in(store, store.root / start.place)}
    return learned


def _itself(store: Store, contest: Contest) -> str:
    """That nobody is champion, or that this model is, or what speaks against it: that it meant other classes."""
    if contest.champion is None:
        return "none"
    try:
        require_same_classes(store, contest.champion, open_receipt(store, contest.sequences.receipt))
    except Incomparable as objection:
        return str(objection)
    return "this model"


@task(
    name="compare",
    description="Compares the model with the champion on the same test images: McNemar's exact test, each class, "
    "calibration. A champion that was published with other test images answers these first.",
    task_run_name="compare",
    persist_result=True,
    result_serializer="json",
    cache_policy=Mirror(key_of=key_of),
)
def compare(artifacts: Path, contest: Contest, demands: Demands, anew: str | None = None) -> Judged:
    """Judge the model, or reuse the verdict on the same two models and samples."""
    store = Store(artifacts)
    return once(
        store, key_of(artifacts, contest, demands), lambda: _kept(store, verdict_on(store, contest, demands)), anew
    )


def verdict_on(store: Store, contest: Contest, demands: Demands) -> Verdict:
    """Judge the model.

    Raises:
        DataError: the sequences are not the sealed ones, or the answers are about other samples than the table's.
        StorageError: an output of this run is damaged.
    """
    receipt, champion = demand_seal(store, contest.sequences), contest.champion
    new = answers_in(store, contest.evaluation)
    seen = seen_by(store, contest.tables, len(new.labels), _began_with(store, contest), contest.opponent)
    predictions = store.open(contest.evaluation.evaluation, PREDICTIONS_FILE)
    findings = list(alone(predictions, receipt.labels, seen, demands))
    if champion is None:
        return _verdict("first champion", None, findings, demands)
    try:
        if contest.opponent is None:
            require_same_classes(store, champion, receipt)
            return _verdict("promote", champion, [SAME, *findings], demands)
        seen.require_comparable(demands.error_rate)
        old = answers_of_champion(store, champion, receipt, contest.test_table, new, seen.by_neither)
    except Incomparable as objection:
        finding = Finding(what="comparable with the champion", holds=False, found=str(objection))
        return _verdict("undecided", champion, [finding, *findings], demands)
    comparison = paired(new.of(seen.by_neither), old.answers.of(seen.by_neither), level=1 - 2 * demands.error_rate)
    calibration = metrics_of(predictions, receipt.labels, seen.by_neither).calibration
    findings += [
        better(comparison, demands, seen.told),
        *classes_kept(new, old.answers, seen.by_neither, receipt.labels, demands),
        calibrated(calibration, old.calibration, demands),
    ]
    return _verdict("promote", champion, findings, demands, comparison, rescored=old.rescored)


def _began_with(store: Store, contest: Contest) -> Handle | None:
    """The published weights that training did begin with: those that do not fit are passed over."""
    start = contest.start
    if start is None:
        return None
    history = open_document(store, contest.trained.history, HISTORY_FILE, History)
    return start if history.started_from == start.digest else None


def _verdict(
    wanted: Decision,
    champion: Champion | None,
    findings: list[Finding],
    demands: Demands,
    comparison: Paired | None = None,
    *,
    rescored: bool = False,
) -> Verdict:
    """What was wanted where all holds; where something does not, the champion, or nobody, keeps the place."""
    holds = wanted == "undecided" or all(finding.holds for finding in findings)
    return Verdict(
        decision=wanted if holds else "keep",
        champion=champion.run if champion else None,
        findings=tuple(findings),
        comparison=comparison,
        rescored=rescored,
        demands=demands,
    )


def _kept(store: Store, verdict: Verdict) -> Judged:
    rows = verdict.comparison.samples if verdict.comparison else 0
    handle = keep_document(store, "verdict", VERDICT_FILE, verdict, rows)
    return Judged(verdict=handle, decision=verdict.decision, champion=verdict.champion)
