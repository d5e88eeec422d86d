"""Promotion: what a person decided is not undone by a run, and a run that is champion no longer is not called so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from manifests import manifest_in

from schemas.champion import Champion, Event
from tasks.champions import Champions, entered, record_of
from tasks.promote import re_verified, removed_by_a_person
from tasks.store import Store

if TYPE_CHECKING:
    from pathlib import Path

A, B, C = (Champion(run=name, manifest=name * 64, weights=name * 64, accuracy=0.9) for name in "abc")


def history_in(place: Champions, *decisions: tuple[Event, Champion | None]) -> None:
    for decision, taking in decisions:
        by_hand = decision in {"by hand", "rolled back"}
        entered(
            place,
            lambda newest, decision=decision, taking=taking, by_hand=by_hand: place.following(
                newest, decision, (taking or C).run, ("so",), taking=taking, by_hand=by_hand
            ),
        )


@pytest.mark.parametrize(
    ("decisions", "number"),
    [
        ((("first champion", A), ("promoted", B)), None),
        ((("first champion", A), ("promoted", B), ("rolled back", A)), 3),
        ((("first champion", A), ("promoted", B), ("by hand", A), ("kept", None)), 3),
        ((("first champion", A), ("promoted", B), ("rolled back", A), ("by hand", B), ("promoted", C)), None),
        ((("first champion", B), ("promoted", C)), None),
        ((("first champion", B), ("kept", None), ("by hand", C), ("rolled back", B), ("by hand", A)), 5),
    ],
)
def test_who_lost_the_place_last_to_a_person_is_known(
    tmp_path: Path, decisions: tuple[tuple[Event, Champion | None], ...], number: int | None
) -> None:
    place = Champions(tmp_path, "mnist")
    history_in(place, *decisions)
    removal = removed_by_a_person(place.history(), B.weights)
    assert (removal and removal.number) == number


def published(root: Path, name: str) -> Champion:
    """A run of no files but its manifest."""
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    manifest_in(folder, weights=name * 64)
    return record_of(Store(root), name)


def test_who_is_champion_is_verified_again_whichever_run_was_skipped(tmp_path: Path) -> None:
    store, place = Store(tmp_path), Champions(tmp_path, "mnist")
    assert re_verified(store, "mnist", "a") is None, "nobody is champion"
    history_in(place, ("first champion", published(tmp_path, "a")), ("promoted", published(tmp_path, "b")))
    for number, skipped in ((3, "b"), (4, "a")):
        entry = re_verified(store, "mnist", skipped)
        assert entry is not None
        assert (entry.decision, entry.run, entry.champion, entry.number) == ("re-verified", "b", "b", number)
        assert entry.reasons[0].startswith(f"no digest changed since {skipped}: ")
    manifest_in(tmp_path / "runs" / "b", weights="c" * 64)
    assert re_verified(store, "mnist", "b") is None, "another run under the champion's name"
    assert re_verified(store, "mnist", "a") is None
