"""Drift: training data beside the champion's, before anything is trained: labels, pixels, the champion's confidence.

Not here: what a profile counts (profile), the verdict on the model (compare).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefect import task
from pydantic import ValidationError

from schemas.champion import Champion
from schemas.configuration import RunConfiguration
from schemas.drift import Drift, Drifted, DriftedError, DriftLimits, Level, Profile, Shift
from schemas.errors import DataError
from schemas.files import CONFIGURATION_FILE, DRIFT_FILE, PROFILE_FILE, RECEIPT_FILE, RUNS
from schemas.handles import Handle, Table
from schemas.receipt import Receipt
from tasks.documents import keep_document
from tasks.idx import form_of
from tasks.learned import learned_in
from tasks.mirror import Mirror
from tasks.profile import confidence_on, profile_of
from tasks.published import damages, state
from tasks.receipts import open_receipt
from tasks.stage import Key, once
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LEVELS: Final[tuple[Level, ...]] = ("none", "warn", "stop")


def key_of(
    artifacts: Path,
    table: Table,
    receipt: Handle,
    champion: Champion | None,
    limits: DriftLimits,
) -> Key[Drifted]:
    """What the comparison depends on: the training data, and the champion with those it was trained on."""
    other = of_other_data(artifacts, champion, table)
    return Key(
        step="drift",
        stage="drift",
        form=Drifted,
        module=__name__,
        inputs={
            "train table": table.table.digest,
            "receipt": receipt.digest,
            "champion": state(Store(artifacts), other) if other else "none",
        },
        settings={"drift": limits.model_dump(mode="json")},
        libraries=("tensorflow", "keras", "numpy"),
    )


@task(
    name="drift",
    description="Compares the training data with the champion's: shares of the labels, pixels, and how sure the "
    "champion is of its answers on them. Warns, or stops the run before training, as the configuration says.",
    task_run_name="drift",
    persist_result=True,
    result_serializer="json",
    cache_policy=Mirror(key_of=key_of),
)
def drift(
    artifacts: Path,
    table: Table,
    receipt: Handle,
    champion: Champion | None,
    limits: DriftLimits,
    anew: str | None = None,
) -> Drifted:
    """Compare the training data with the champion's, or reuse the comparison of the same two."""
    store = Store(artifacts)
    key = key_of(artifacts, table, receipt, champion, limits)
    return once(store, key, lambda: compared(store, table, open_receipt(store, receipt), champion, limits), anew)


def compared(store: Store, table: Table, receipt: Receipt, champion: Champion | None, limits: DriftLimits) -> Drifted:
    """Compare and keep the comparison.

    Raises:
        DriftedError: a shift is beyond the limit at which the run shall stop.
    """
    receipt.require_table("train", table.table.digest)
    found = drift_of(store, table, receipt, champion, limits)
    stopping = [
        f"{shift.what}: {shift.found} (index {shift.index:.2f})" for shift in found.shifts if shift.level == "stop"
    ]
    if stopping:
        raise DriftedError(
            f"the training data have drifted from the champion's ({found.champion}): {'; '.join(stopping)}",
            f"a population stability index below drift.stop = {limits.stop:g}",
            "Look at the data. Where they are right, train on them with a higher limit, or leave drift.stop out",
            f"table of the {table.split} split",
            found,
        )
    return _kept(store, found)


def of_other_data(artifacts: Path, champion: Champion | None, table: Table) -> Champion | None:
    """The champion where it was trained on other data than a table's: the same data cannot have drifted."""
    if champion is None:
        return None
    try:
        then = Receipt.model_validate_json((artifacts / RUNS / champion.run / RECEIPT_FILE).read_bytes())
        return None if then.table_digest("train") == table.table.digest else champion
    except (OSError, ValidationError, DataError):  # damaged: that is told where it is compared
        return champion


def drift_of(store: Store, table: Table, receipt: Receipt, champion: Champion | None, limits: DriftLimits) -> Drift:
    """The training data beside the champion's."""
    champion = of_other_data(store.root, champion, table)
    own = profile_of(store, table, receipt.labels)
    if champion is None:
        return Drift(champion=None, worst="none", why_none="no champion was trained on other data", profile=own)
    before = _profile_then(store, champion)
    if isinstance(before, str):
        return Drift(champion=champion.run, worst="none", why_none=before, profile=own)
    edges = before.low, before.high  # pixels are compared in the champion's bins, and kept in their own
    now = own if edges == (own.low, own.high) else profile_of(store, table, receipt.labels, edges)
    folder = store.root / RUNS / champion.run
    reshape = RunConfiguration.model_validate_json((folder / CONFIGURATION_FILE).read_bytes()).reshape
    then = Receipt.model_validate_json((folder / RECEIPT_FILE).read_bytes())
    other_form = tuple(_shift_of_form(then, receipt, (before.rows, now.rows), limits))
    if before.confidence and not other_form:  # else it cannot be asked
        confidence = confidence_on(store, table, reshape, folder, learned_in(store, folder))
        now = now.model_copy(update={"confidence": confidence})
    shifts = *other_form, *shifts_of(before, now, receipt.labels.names, limits, reshape.images_per_sequence)
    worst = max((shift.level for shift in shifts), key=LEVELS.index)
    return Drift(champion=champion.run, worst=worst, shifts=shifts, profile=own)


def _shift_of_form(then: Receipt, now: Receipt, images: tuple[int, int], limits: DriftLimits) -> Iterator[Shift]:
    """Where images have another shape or type than the champion's: all were of the one, and all are of the other."""
    if (then.image_shape, then.image_dtype) != (now.image_shape, now.image_dtype):
        before, today = images
        names = [form_of(each.image_shape, each.image_dtype) for each in (then, now)]
        shift = shift_of("form of the images", (before, 0), (0, today), names, limits)
        found = f"{names[0]} → {names[1]}, so the champion could not be asked about them"
        yield shift.model_copy(update={"found": found})


def _profile_then(store: Store, champion: Champion) -> Profile | str:
    """What the champion's training data looked like, or why that is not known."""
    found = damages(store, f"{RUNS}/{champion.run}", champion.manifest)
    if found:
        return f"the champion's run is not as it was published: {'; '.join(found)}"
    path = store.root / RUNS / champion.run / PROFILE_FILE
    if not path.is_file():
        return "the champion was published before profiles were kept"
    return Profile.model_validate_json(path.read_bytes())


def shifts_of(
    before: Profile, now: Profile, classes: Sequence[str], limits: DriftLimits, together: int = 1
) -> Iterator[Shift]:
    """Each distribution that both profiles have; the champion answers so many images together, in one sequence."""
    if before.first is not None or len(before.labels) == len(now.labels):
        then, today, names = _by_label(before, now, classes)
        yield shift_of("shares of the labels", then, today, names, limits)
    width, bins = (before.high - before.low) / len(before.pixels), range(len(before.pixels))
    inside = [f"pixels from {before.low + i * width:g} to {before.low + (i + 1) * width:g}" for i in bins]
    names = [f"pixels below {before.low:g}", *inside, f"pixels above {before.high:g}"]
    then, today = ([each.below, *each.pixels, each.above] for each in (before, now))
    # Pixels of one image hang together: what is counted by chance are images.
    shift = shift_of("pixels", then, today, names, limits, samples=(before.rows, now.rows))
    moments = f"mean {before.mean:.4g} → {now.mean:.4g}, standard deviation {before.std:.4g} → {now.std:.4g}"
    yield shift.model_copy(update={"found": f"{moments}; {shift.found}"})
    if before.confidence and now.confidence:
        names = [
            f"answers that the champion is {10 * i} to {10 * (i + 1)} % sure of" for i in range(len(now.confidence))
        ]
        asked = sum(before.confidence) // together, sum(now.confidence) // together
        yield shift_of("the champion's confidence", before.confidence, now.confidence, names, limits, samples=asked)


def _by_label(before: Profile, now: Profile, classes: Sequence[str]) -> tuple[list[int], list[int], list[str]]:
    """Counts of every label that either has, and names: those of now, or the label itself where it is gone.

    A profile that does not state its first label is taken to begin where the other does.
    """
    first = now.first or 0
    then = dict(enumerate(before.labels, first if before.first is None else before.first))
    today, named = dict(enumerate(now.labels, first)), dict(enumerate(classes, first))
    labels = sorted(then.keys() | today.keys())
    counts = [[each.get(label, 0) for label in labels] for each in (then, today)]
    return counts[0], counts[1], [f"class {named.get(label, label)}" for label in labels]


def shift_of(
    what: str,
    before: Sequence[int],
    now: Sequence[int],
    names: Sequence[str],
    limits: DriftLimits,
    samples: tuple[int, int] | None = None,
) -> Shift:
    """How far one distribution is from another: the population stability index, sum of (q - p) ln(q / p) over bins.

    Where nothing shifted, its mean is (B - 1)(1/n + 1/m) for B bins and n and m samples, a chi-squared of B - 1 degrees
    of freedom times (1/n + 1/m) (Yurdakul, Naranjo, J. Risk Model Validation 14, 2020); `chance` is that mean and three
    standard deviations. Half a sample is added to each bin, so that an empty one has a logarithm; those
    that are empty in both are left out.

    Args:
        what: The distribution, for people.
        before: Counts a bin, then.
        now: Counts a bin, now.
        names: Of the bins.
        limits: From which index on it is told, or stops the run, beyond chance.
        samples: How many independent samples the counts are of, then and now; None: as many as they count.
    """
    n, m = samples or (sum(before), sum(now))
    there = [k for k, counts in enumerate(zip(before, now, strict=True)) if any(counts)] or [0]
    names = [names[k] for k in there]
    p, q = (_shares([counts[k] for k in there]) for counts in (before, now))
    parts = [(b - a) * math.log(b / a) for a, b in zip(p, q, strict=True)]
    index, degrees = math.fsum(parts), len(parts) - 1
    chance = (degrees + 3 * math.sqrt(2 * degrees)) * (1 / max(n, 1) + 1 / max(m, 1))
    beyond = index - chance
    level: Level = "warn" if beyond >= limits.warn else "none"
    if limits.stop is not None and beyond >= limits.stop:
        level = "stop"
    most = max(range(len(parts)), key=parts.__getitem__)
    return Shift(
        what=what, index=index, chance=chance, level=level, found=f"{names[most]}: {p[most]:.1%} → {q[most]:.1%}"
    )


def _shares(counts: Sequence[int]) -> list[float]:
    whole = sum(counts) + len(counts) / 2
    return [(count + 0.5) / whole for count in counts]


def _kept(store: Store, found: Drift) -> Drifted:
    return Drifted(drift=keep_document(store, "drift", DRIFT_FILE, found, found.profile.rows), worst=found.worst)
