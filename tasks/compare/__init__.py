"""Compare: a model against the champion, on the same test samples; the verdict says whether it deserves the place.

Not here: how either answered (answers), the statistics (tasks/proportions), who gets the place in the end (promote).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from prefect import task

from schemas.champion import Champion, Decision, Demands, Finding, Judged, Paired, Verdict
from schemas.files import HISTORY_FILE, PREDICTIONS_FILE, VERDICT_FILE
from schemas.history import History
from tasks.compare.answers import (
    Answers,
    Incomparable,
    answers_in,
    answers_of_champion,
    metrics_of,
    require_same_classes,
)
from tasks.compare.seen import seen_by
from tasks.documents import keep_document, open_document
from tasks.learned import record_in
from tasks.mirror import Mirror
from tasks.proportions import mcnemar_exact, newcombe_paired
from tasks.published import state
from tasks.receipts import demand_seal, open_receipt
from tasks.stage import Key, once
from tasks.store import Store
from tasks.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from schemas.handles import Evaluation, Handle, Labels, Sequences, Table, TrainedModel
    from schemas.metrics import Calibration
    from tasks.compare.seen import Seen

CHANCE: Final = 0.05  # at which a class, of all together, or honesty is said to be lost by mistake
VANISHED: Final = 5  # images of a class: where so many were found and none is, chance is not asked
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
            "learned before": record_in(store.root / contest.start.place) if contest.start else "none",
        },
        settings={"promotion": demands.model_dump(mode="json", exclude={"demanded"})},
        libraries=("tensorflow", "keras", "numpy"),
    )


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
    findings = list(_alone(predictions, receipt.labels, seen, demands))
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
        _better(comparison, demands, seen.told),
        *_classes(new, old.answers, seen.by_neither, receipt.labels, demands),
        _calibrated(calibration, old.calibration, demands),
    ]
    return _verdict("promote", champion, findings, demands, comparison, rescored=old.rescored)


def _began_with(store: Store, contest: Contest) -> Handle | None:
    """The published weights that training did begin with: those that do not fit are passed over."""
    start = contest.start
    if start is None:
        return None
    history = open_document(store, contest.trained.history, HISTORY_FILE, History)
    return start if history.started_from == start.digest else None


def paired(new: Answers, old: Answers, level: float = 0.95) -> Paired:
    """Two models' answers to the same samples, side by side; the difference with its interval at a level."""
    a, b, c, d = _table(new.right, old.right)
    return Paired(
        samples=a + b + c + d,
        both=a,
        only_new=b,
        only_old=c,
        neither=d,
        p=mcnemar_exact(b, c),
        difference=(b - c) / (a + b + c + d),
        interval=newcombe_paired(a, b, c, d, level),
        level=level,
    )


def _table(new: NDArray[Any], old: NDArray[Any]) -> tuple[int, int, int, int]:
    """Samples that both got right, only the new one, only the old one, neither."""
    return (
        int((new & old).sum()),
        int((new & ~old).sum()),
        int((~new & old).sum()),
        int((~new & ~old).sum()),
    )


def _alone(predictions: Path, labels: Labels, seen: Seen, demands: Demands) -> Iterator[Finding]:
    """What is demanded of any model, on images that it has not learned from."""
    rows = ~seen.by_new
    if not rows.any():
        yield Finding(what="test images that it has not learned from", holds=False, found=f"none of {len(rows):,}")
        return
    metrics = metrics_of(predictions, labels, rows)
    of = "" if rows.all() else f" of the {metrics.samples:,} test images that it has not learned from"
    accuracy, low = metrics.accuracy, metrics.interval[0]
    commonest = max(each.support for each in metrics.classes) / metrics.samples
    if demands.minimum_accuracy:
        yield Finding(
            what="minimum accuracy",
            holds=accuracy >= demands.minimum_accuracy,
            found=f"{accuracy:.2%}{of}, at least {demands.minimum_accuracy:.2%} demanded",
        )
    yield from (
        Finding(
            what=f"minimum recall of class {each.name}",
            holds=False,
            found=f"{each.recall:.2%} of its {each.support:,} found, at least {demands.minimum_recall:.2%} demanded",
        )
        for each in metrics.classes
        if each.support and (each.recall or 0) < demands.minimum_recall
    )
    surely = f"surely above {low:.2%}" if low > commonest else f"which may be as low as {low:.2%}"
    yield Finding(
        what="better than always answering the most frequent class",
        holds=low > commonest,
        found=f"{accuracy:.2%}{of}, {surely}, where that would give {commonest:.2%}",
    )


def _better(comparison: Paired, demands: Demands, without: str) -> Finding:
    """Whether the new model is better; `without` says which images did not count."""
    low, high = comparison.interval
    return Finding(
        what="better than the champion",
        holds=comparison.p <= demands.error_rate,
        found=f"{counted(comparison.only_new, 'image')} only this model got right, "
        f"{comparison.only_old:,} only the champion: "
        f"{100 * comparison.difference:+.2f} points ({100 * comparison.level:g} % interval {100 * low:+.2f} to "
        f"{100 * high:+.2f}); p = {comparison.p:.2g}, at most {demands.error_rate:g} demanded{without}",
    )


def _classes(
    new: Answers, old: Answers, rows: NDArray[np.bool_], labels: Labels, demands: Demands
) -> Iterator[Finding]:
    """One finding for all classes that hold, or one for each that does not.

    Of many classes one falls by luck: the rate is that of all together (Bonferroni). It is not the error rate that is
    demanded of the whole: to object more rarely would be no stricter.
    """
    compared, there = (set(np.unique(of.labels).tolist()) for of in (new.of(rows), new))
    limit = CHANCE / max(1, len(compared))
    lost = [
        Finding(what=f"class {labels.names[label - labels.first]} not lost", holds=False, found=found)
        for label in sorted(there)
        if (
            found := _vanished(label, new, old)
            or _loss_of(label, new.of(rows), old.of(rows), demands.class_margin, limit)
        )
    ]
    kept = f"none is found {100 * demands.class_margin:g} points more rarely than chance explains"
    if unknown := len(there - compared):
        kept += f"; of {unknown:,} of the classes no image is left that neither has learned from"
    yield from lost or [Finding(what="no class lost", holds=True, found=kept)]


def _vanished(label: int, new: Answers, old: Answers) -> str:
    """That a class is never found any more, in images that were learned either; empty where it is, or never was.

    Of few images chance is not excluded so soon as somebody would be sorry.
    """
    of_class = new.labels == label
    before, now = int(old.right[of_class].sum()), int(new.right[of_class].sum())
    if now or before < VANISHED:
        return ""
    return f"found in none of its {int(of_class.sum()):,} images, by the champion in {before:,}"


def _loss_of(label: int, new: Answers, old: Answers, margin: float, limit: float) -> str:
    """What a class has lost, where it is more than the margin, and chance less likely than the limit; else nothing."""
    of_class = new.labels == label
    both, gained, lost, neither = _table(new.right[of_class], old.right[of_class])
    samples = both + gained + lost + neither
    if lost - gained <= margin * samples:
        return ""
    p = mcnemar_exact(lost, gained)
    before, now = (both + lost) / samples, (both + gained) / samples
    return f"found {now:.2%} of the time, by the champion {before:.2%} (p = {p:.2g})" if p <= limit else ""


def _calibrated(now: Calibration, before: Calibration, demands: Demands) -> Finding:
    """Whether answers are as sure as they are right, but for a margin and for chance."""
    chance = NormalDist().inv_cdf(1 - CHANCE) * math.hypot(_deviation(now), _deviation(before))
    return Finding(
        what="calibration not worse",
        holds=now.ece <= before.ece + demands.calibration_margin + chance,
        found=f"expected calibration error {now.ece:.2%}, the champion's {before.ece:.2%}, "
        f"{demands.calibration_margin:.2%} more allowed and {chance:.2%} for chance",
    )


def _deviation(calibration: Calibration) -> float:
    """The standard deviation of an expected calibration error of n answers, as that of its bins' sums of right answers.

    Those are binomial where the confidence is what it should be: variance q (1 - q) each; sums over bins add up.
    """
    bins = [(each.count, each.confidence) for each in calibration.reliability if each.confidence is not None]
    n = sum(count for count, _ in bins)
    return math.sqrt(sum(count * q * (1 - q) for count, q in bins)) / n


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
