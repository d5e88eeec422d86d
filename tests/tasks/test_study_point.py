"""A point of the study: sealed sequences only, every sample counted, kept under a key of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from samples import both, signed, silent

from flows.study import batches, missing_points
from schemas.configuration import Reshape
from schemas.design import StudySettings, designed, seconds_of
from schemas.errors import DataError
from schemas.ledger import CountsBrokenError
from schemas.study import Point, PointCounts
from tasks.arrays import open_arrays
from tasks.reshape import sealed
from tasks.store import Store
from tasks.study.point import STAGE, drawn, key_of, measure_point, measured, require_counts
from tasks.train.standing import Continuity

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.handles import Sequences

PIXELS, ROWS = 24, 120


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def sequences(store: Store) -> Sequences:
    tables = both(store, ROWS)
    return sealed(store, tables[0], signed(store, tables), Reshape(timesteps=1), silent)


def points(seeds: int) -> tuple[Point, ...]:
    asked = StudySettings(seeds=seeds, scans=("rows",), timesteps=(4,), epochs=1, images=50)
    return designed(asked, PIXELS, ROWS)


@pytest.mark.slow
def test_a_stopped_study_repeats_nothing_and_one_more_seed_costs_one_more_seed(
    store: Store, sequences: Sequences
) -> None:
    def kept() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (store.place / "keys" / STAGE).glob("*.json")}

    first, second = one_seed = points(1)
    result = measure_point.fn(store.root, sequences, first)
    assert result.counts == PointCounts(sequences=ROWS, fitted=50, held_out=10, left_out=60, seen=50, answered=10)
    assert len(result.hits_after) == 4
    assert result.accuracy == result.hits_after[-1] / 10
    one = kept()
    assert missing_points(store, {"rows": sequences}, one_seed) == (second,)  # it was stopped here
    measure_point.fn(store.root, sequences, second)
    two = kept()
    assert one.items() < two.items()
    assert measure_point.fn(store.root, sequences, first) == result  # to the second: taken, not measured
    assert kept() == two
    assert not list((store.place / "partial").iterdir())
    assert missing_points(store, {"rows": sequences}, points(3)) == points(3)[2:]


def test_batches_hold_every_point_once_and_each_one_seed_and_scan() -> None:
    every = designed(StudySettings(), PIXELS, ROWS)
    found = batches(every)
    assert sorted((point for batch in found for point in batch), key=every.index) == list(every)
    assert len(found) == 9
    for batch in found:
        times = [seconds_of(point) for point in batch]
        assert times == sorted(times, reverse=True), "none of the longest is left to one worker alone at the end"
    assert all(len({(point.seed, point.scan) for point in batch}) == 1 for batch in found)


def test_keys_hang_on_the_point_and_the_sequences(store: Store, sequences: Sequences) -> None:
    asked = points(2)
    digests = {key_of(sequences, point).digest for point in asked}
    assert len(digests) == len(asked) == 4
    components = key_of(sequences, asked[0]).components
    assert not components["machine"]  # another machine's measurement is one
    assert not any(name.startswith("tasks.study.") and name.endswith(("page", "words")) for name in components["code"])


def test_bytes_of_a_scan_are_those_of_every_t(store: Store) -> None:
    tables = both(store)
    receipt = signed(store, tables)
    for scan in ("rows", "columns", "permuted"):
        one = sealed(store, tables[0], receipt, Reshape(timesteps=1, scan=scan), silent)
        for t in (4, 24):
            other = sealed(store, tables[0], receipt, Reshape(timesteps=t, scan=scan), silent)
            assert other.x.digest == one.x.digest
            x = open_arrays(store, one)[0].reshape(-1, t, 24 // t)
            assert np.array_equal(x, open_arrays(store, other)[0])


def test_the_held_out_are_the_same_for_all_and_never_learned_from() -> None:
    splits = [drawn(ROWS, point) for point in points(3)]
    held_out = {tuple(split[1]) for split in splits}
    assert len(held_out) == 1
    assert all(not set(fitted) & set(out) and len(set(fitted)) == 50 for fitted, out in splits)
    assert len({tuple(fitted) for fitted, _ in splits}) == 3  # by seed, not by recipe


def test_sequences_without_their_seal_are_refused(store: Store, sequences: Sequences) -> None:
    stranger = sequences.model_copy(update={"x": sequences.targets})
    with pytest.raises(DataError, match="not the ones that reshape sealed"):
        measured(store, stranger, points(1)[0], silent, Continuity())


@pytest.mark.parametrize("lost", ["fitted", "held_out", "left_out", "seen", "answered"])
def test_a_sample_that_is_lost_stops_the_point(lost: str) -> None:
    counts = PointCounts(sequences=ROWS, fitted=50, held_out=10, left_out=60, seen=50, answered=10)
    point = points(1)[0]
    require_counts(point, counts)
    with pytest.raises(CountsBrokenError, match=r"point 4 × 6 rows, question recipe, seed 0: .* against"):
        require_counts(point, counts.model_copy(update={lost: getattr(counts, lost) - 1}))
