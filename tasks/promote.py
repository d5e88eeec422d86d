"""Promote: give a published model the champion's place where the verdict says so, and put on record what was decided.

Not here: the verdict (compare), the place and its history (tasks/champions), what a person decides (flows/champion).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task

from schemas.champion import Champion, Entry, Event, Judged, Verdict
from schemas.files import RECEIPT_FILE, RUNS, VERDICT_FILE
from schemas.handles import Frozen, PublishedRun
from schemas.receipt import Receipt
from tasks.champions import Champions, entered, record_of
from tasks.documents import open_document
from tasks.mirror import Mirror
from tasks.published import damages, stands, unsound
from tasks.stage import log, timed
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schemas.handles import Sha256


class Promoted(Frozen):
    """What promote returns: the published run, and the entry that says what became of it."""

    published: PublishedRun
    entry: Entry


@task(
    name="promote",
    description="Gives the published model the champion's place where the verdict says so, after its files, receipt "
    "and counts were verified; the place's history says what was decided, and why.",
    task_run_name="promote",
    persist_result=True,
    result_serializer="json",
    cache_policy=Mirror(always="who is champion is looked at each time"),
)
def promote(
    artifacts: Path,
    dataset: str,
    published: PublishedRun,
    judged: Judged,
    anew: str | None = None,  # noqa: ARG001 - it always looks
) -> Promoted:
    """Put on record what the verdict means for the champion's place."""
    store = Store(artifacts)
    with timed("promote"):
        verdict = open_document(store, judged.verdict, VERDICT_FILE, Verdict)
        place = Champions(store.root, dataset)
        entry = entered(place, lambda newest: _entry(store, place, published, verdict, newest))
    log.info("%s: %s", entry.decision, "; ".join(entry.reasons))
    return Promoted(published=published, entry=entry)


def re_verified(store: Store, dataset: str, run: str) -> Entry | None:
    """Put on record that no digest changed since a run, whose champion was verified again, be it this run or another.

    None where there is no champion, or where its files are no longer those with which it became champion.
    """
    place = Champions(store.root, dataset)
    why = (f"no digest changed since {run}: a run was skipped, as its policy says; the champion's files were verified",)

    def entry(newest: Entry | None) -> Entry | None:
        record = newest.record if newest else None
        holds = record and stands(store, f"{RUNS}/{record.run}", record.manifest)
        return place.following(newest, "re-verified", record.run, why) if record and holds else None

    return entered(place, entry)


def removed_by_a_person(history: Sequence[Entry], weights: Sha256) -> Entry | None:
    """The entry by which a person took the place from a model of these weights, unless it was taken later by a better.

    Args:
        history: All entries, the oldest first.
        weights: Digest of the model's.
    """
    taken = [
        entry
        for before, entry in pairwise(history)
        if before.record and before.record.weights == weights and entry.champion != before.champion
    ]
    return taken[-1] if taken and taken[-1].by_hand else None


def _entry(store: Store, place: Champions, published: PublishedRun, verdict: Verdict, newest: Entry | None) -> Entry:
    """What this run is for the place, given its newest entry."""
    decision, reasons = _decided(store, place, published, verdict, newest)
    taking = record_of(store, published.run) if decision in {"first champion", "promoted"} else None
    judged = None if decision == "re-verified" else verdict  # nobody was judged anew
    return place.following(newest, decision, published.run, reasons, taking=taking, verdict=judged)


def _decided(
    store: Store, place: Champions, published: PublishedRun, verdict: Verdict, newest: Entry | None
) -> tuple[Event, tuple[str, ...]]:
    holder, weights = newest.champion if newest else None, record_of(store, published.run).weights
    if published.run == holder:
        return "re-verified", ("no digest changed: its files were compared with its manifest, and its verdict stands",)
    if newest and newest.record and weights == newest.record.weights:
        return _of_equal_weights(store, published, verdict, newest.record)
    if verdict.decision in {"keep", "undecided"}:
        return ("kept" if verdict.decision == "keep" else "undecided"), verdict.reasons
    objections = tuple(_objections(store, place, published, verdict, weights, holder))
    if objections:
        return "kept", objections
    return ("promoted" if holder else "first champion"), verdict.reasons


def _of_equal_weights(
    store: Store, published: PublishedRun, verdict: Verdict, champion: Champion
) -> tuple[Event, tuple[str, ...]]:
    """What another run of the champion's own weights is: a second proof of it, or the copy that takes its place.

    Where its classes have other names, equal weights say something else, and a person decides.
    """
    if verdict.decision == "undecided":
        return "undecided", verdict.reasons
    same = f"its weights are those of the champion, {champion.run}"
    if damaged := damages(store, f"{RUNS}/{champion.run}", champion.manifest):
        demanded = [
            f"not met: {each.what}: {each.found}" for each in verdict.findings if not each.holds and not each.of_itself
        ]
        objections = (*demanded, *unsound(store, published.place, published.manifest))
        because = f"{same}, which is no longer as it was published: {'; '.join(damaged)}"
        return ("kept", objections) if objections else ("promoted", (because,))
    if _test_digest(store, published.run) == _test_digest(store, champion.run):
        return "re-verified", (same,)
    others = f"{same}; of test images that are others it answers {published.accuracy:.2%} right"
    return "kept", (others, *(verdict.reasons if verdict.decision == "keep" else ()))


def _test_digest(store: Store, run: str) -> Sha256:
    """Of the table that a run's model answered."""
    return Receipt.model_validate_json((store.root / RUNS / run / RECEIPT_FILE).read_bytes()).table_digest("test")


def _objections(
    store: Store, place: Champions, published: PublishedRun, verdict: Verdict, weights: Sha256, holder: str | None
) -> Iterator[str]:
    """Why a model whose verdict is good does not get the place all the same."""
    if removal := removed_by_a_person(place.history(), weights):
        why = "; ".join(removal.reasons)
        yield f"a person took the place from it (entry {removal.number}: {why}), and only a person gives it back"
    if verdict.champion != holder:
        compared = verdict.champion or "nobody"
        yield f"{holder} became champion meanwhile, and it was compared with {compared}: run it again"
    yield from unsound(store, published.place, published.manifest)
