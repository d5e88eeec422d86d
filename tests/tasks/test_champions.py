"""The champion's place: whole entries under numbers without a gap, whoever writes them at once."""

from __future__ import annotations

import itertools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import pytest

from schemas.champion import Champion, Entry
from schemas.errors import StorageError
from tasks.champions import Champions, PlaceTakenError, all_champions, entered

if TYPE_CHECKING:
    from pathlib import Path

NAME = "digits of a folder/with a slash"


def champion(run: str) -> Champion:
    return Champion(run=run, manifest="0" * 64, weights="1" * 64, accuracy=0.9)


def entry(place: Champions, run: str) -> Entry:
    return place.following(place.newest(), "promoted", run, ("a reason",), taking=champion(run))


def test_the_newest_entry_says_who_is_champion(tmp_path: Path) -> None:
    place = Champions(tmp_path, NAME)
    assert (place.newest(), place.champion(), place.history()) == (None, None, [])
    place.enter(entry(place, "one"))
    place.enter(place.following(place.newest(), "kept", "two", ("worse",)))
    newest = place.newest()
    assert newest
    assert (newest.number, newest.run, newest.champion, newest.was) == (2, "two", "one", "one")
    assert place.champion() == champion("one")
    assert [path.name for path in sorted(place.folder.iterdir())] == ["000001.json", "000002.json"]
    assert [found.dataset for found in all_champions(tmp_path)] == [NAME]
    assert place.folder.parent == tmp_path / "champions", "no name leads out of the folder"


def test_of_two_at_once_one_has_the_place_and_the_other_is_told(tmp_path: Path) -> None:
    place = Champions(tmp_path, "mnist")
    one, other = entry(place, "one"), entry(place, "other")
    place.enter(one)
    before = (place.folder / "000001.json").read_bytes()
    with pytest.raises(PlaceTakenError):
        place.enter(other)
    assert (place.folder / "000001.json").read_bytes() == before
    assert len(list(place.folder.iterdir())) == 1


def many(root: Path, writer: int) -> None:
    place = Champions(root, "mnist")
    for number in range(20):
        entered(place, lambda _, run=f"{writer}-{number}": entry(place, run))  # type: ignore[misc]


@pytest.mark.slow
def test_whoever_comes_second_looks_again_and_no_entry_is_lost(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(many, [tmp_path] * 3, range(3)))
    history = Champions(tmp_path, "mnist").history()
    assert [entry.number for entry in history] == list(range(1, 61))
    assert {entry.run for entry in history} == {f"{writer}-{number}" for writer in range(3) for number in range(20)}
    assert all(after.was == before.champion for before, after in itertools.pairwise(history))


@pytest.mark.parametrize(("damage", "text"), [("cut", "cannot be read"), ("gone", "has the entries 2")])
def test_a_history_that_is_not_whole_is_no_history(tmp_path: Path, damage: str, text: str) -> None:
    place = Champions(tmp_path, "mnist")
    place.enter(entry(place, "one"))
    place.enter(entry(place, "two"))
    first = place.folder / "000001.json"
    if damage == "cut":
        first.write_bytes(first.read_bytes()[:40])
    else:
        first.unlink()
    with pytest.raises(StorageError, match=text):
        place.champion()
