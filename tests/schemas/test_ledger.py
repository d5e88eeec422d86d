"""The ledger: every equation is broken once and must be named, with its stage, both counts, ratio and likely cause."""

from __future__ import annotations

import pytest

from schemas.errors import DataError
from schemas.handles import SPLITS, Split, Station
from schemas.ledger import EQUATIONS, MEANING, Balance, CountsBrokenError, Equation, Ledger

N = 60_000
WHOLE: dict[Station, int] = {
    "image header": N,
    "label header": N,
    "decoded images": N,
    "decoded labels": N,
    "table rows": N,
    "sequences": 3_749,
    "targets": 3_749,
    "images in sequences": N - 16,
    "labels in targets": N - 16,
    "dropped": 16,
    "fitted": 3_700,
    "validation": 49,
    "seen in an epoch": 3_700,
    "evaluated": N - 16,
    "predictions written": N - 16,
}
CASES = [
    pytest.param(equation, split, id=f"{equation} ({split})") for equation in EQUATIONS for split in equation.splits
]


def ledger_of(counts: dict[Station, int], split: Split = "train") -> Ledger:
    return Ledger().entered(split, "test", counts)


def closed() -> Ledger:
    return ledger_of(WHOLE).merged(ledger_of(WHOLE, "test"))


def refusal(ledger: Ledger) -> CountsBrokenError:
    with pytest.raises(CountsBrokenError) as caught:
        ledger.verify()
    return caught.value


def test_every_station_has_a_meaning_and_stands_in_an_equation() -> None:
    assert set(WHOLE) == set(MEANING) == {name for e in EQUATIONS for name in (*e.left, *e.right)}


def test_a_closed_ledger_holds_in_every_equation() -> None:
    closed().verify_complete()
    assert all(balance.holds for balance in closed().balances())
    assert len(closed().balances()) == len(CASES)


@pytest.mark.parametrize("wrong", [-1, 1, -N // 2, None])
@pytest.mark.parametrize(("equation", "split"), CASES)
def test_each_equation_is_named_when_it_breaks(equation: Equation, split: Split, wrong: int | None) -> None:
    """Only the stations of one equation are known, so no other can speak for it."""
    counts = {station: WHOLE[station] for station in (*equation.left, *equation.right)}
    station = equation.left[0]
    counts[station] = 0 if wrong is None else max(0, counts[station] + wrong)
    left = sum(counts[name] for name in equation.left)
    right = sum(counts[name] for name in equation.right)

    error = refusal(ledger_of(counts, split))

    assert error.equation == error.expected == str(equation)
    assert f"{equation.stage}, {split} split: " in error.found
    assert f"{left:,} ({' + '.join(equation.left)}) against {right:,} ({' + '.join(equation.right)})" in error.found
    if left and max(left, right) / min(left, right) >= 1.0005:
        assert error.found.endswith(f", a ratio of {max(left, right) / min(left, right):.4g}")
    elif left:
        assert error.found.endswith(f", a difference of {abs(left - right):,}")
    else:
        assert "ratio" not in error.found
    assert len(error.remedy) > 20
    assert str(error).startswith(error.found)
    assert isinstance(error, DataError)
    assert error.exit_code == 3


@pytest.mark.parametrize(("equation", "split"), CASES)
def test_a_break_is_found_among_all_other_counts(equation: Equation, split: Split) -> None:
    """With the whole ledger known, the first equation broken by a station is the one told."""
    counts = {**WHOLE, equation.left[0]: WHOLE[equation.left[0]] - 1}
    first = next(e for e in EQUATIONS if split in e.splits and equation.left[0] in (*e.left, *e.right))
    assert refusal(ledger_of(counts, split)).equation == str(first)


def test_3750_sequences_against_60000_targets() -> None:
    error = refusal(ledger_of({"sequences": 3_750, "targets": 60_000}))
    assert str(error) == (
        "reshape, train split: 3,750 (sequences) against 60,000 (targets), a ratio of 16. "
        "Expected: sequences = targets. "
        "Probably 16 consecutive images were grouped into one sequence while the labels stayed one by one: group both "
        "(layout 'frames' gives every frame its label) or neither (layout 'pixels' keeps one image a sequence and "
        "splits its pixels into steps)."
    )


@pytest.mark.parametrize(
    ("counts", "cause"),
    [
        ({"sequences": 60_000, "targets": 3_750}, "16 consecutive labels were grouped"),
        (
            {"sequences": 2_142, "targets": 60_000},
            "Probably 28 consecutive images were grouped into one sequence, the last 24 left out, while the labels",
        ),
        (
            {"sequences": 76, "targets": 60_000},
            "Probably 780 to 789 consecutive images were grouped into one sequence while the labels",
        ),
        ({"sequences": 3_749, "targets": 3_750}, "the last 1 were cut off because T does not divide"),
        (
            {"images in sequences": 59_990, "dropped": 0, "table rows": 60_000},
            "the last 10 were cut off because T does not divide",
        ),
        ({"images in sequences": 3_750, "dropped": 0, "table rows": 60_000}, "the last 56,250 were cut off"),
        ({"images in sequences": 60_001, "dropped": 0, "table rows": 60_000}, "duplicated in the stage 'reshape'"),
        ({"decoded images": 60_000, "decoded labels": 10_000}, "label file belongs to another split"),
        ({"image header": 60_000, "label header": 10_000}, "label file belongs to another split"),
        ({"table rows": 59_999, "decoded images": 60_000}, "lost in the stage 'parse'"),
        ({"fitted": 50_000, "validation": 9_000, "sequences": 60_000}, "lost in the stage 'train'"),
        ({"seen in an epoch": 51_000, "fitted": 50_000}, "duplicated in the stage 'train'"),
        ({"predictions written": 9_999, "evaluated": 10_000}, "lost in the stage 'evaluate'"),
    ],
)
def test_what_probably_happened(counts: dict[Station, int], cause: str) -> None:
    split: Split = "test" if "evaluated" in counts else "train"
    assert cause in refusal(ledger_of(counts, split)).remedy


@pytest.mark.parametrize("station", WHOLE)
def test_a_ledger_with_a_station_uncounted_is_not_closed(station: Station) -> None:
    counts = {name: count for name, count in WHOLE.items() if name != station}
    ledger = ledger_of(counts).merged(ledger_of(counts, "test"))
    ledger.verify()
    with pytest.raises(CountsBrokenError, match="the ledger is not closed") as caught:
        ledger.verify_complete()
    open_ones = [e for e in EQUATIONS if station in (*e.left, *e.right)]
    assert all(f"{equation} ({split})" in caught.value.found for equation in open_ones for split in equation.splits)
    assert caught.value.expected == "a count at every station"


def test_completeness_tells_a_broken_count_first() -> None:
    with pytest.raises(CountsBrokenError, match="reshape, test split") as caught:
        ledger_of({"sequences": 1, "targets": 2}, "test").verify_complete()
    assert "sequences = targets" in str(caught.value)


def test_a_station_is_counted_once() -> None:
    ledger = ledger_of({"table rows": 5})
    assert ledger.entered("train", "validate", {"table rows": 5}) == ledger
    with pytest.raises(CountsBrokenError) as caught:
        ledger.entered("train", "validate", {"table rows": 4})
    assert caught.value.found == (
        "validate counted 4 at the station 'table rows' of the train split, where 5 had been counted before"
    )
    assert caught.value.equation == "table rows"
    other = ledger.entered("test", "validate", {"table rows": 4})  # splits are counted apart
    assert [other.count(split, "table rows") for split in SPLITS] == [5, 4]


def test_merging_keeps_each_station_once_and_refuses_a_second_count() -> None:
    one, two = ledger_of({"table rows": 5, "sequences": 5}), ledger_of({"sequences": 5, "targets": 5})
    merged = one.merged(two)
    assert [entry.station for entry in merged.entries] == ["table rows", "sequences", "targets"]
    assert merged.merged(one) == merged
    with pytest.raises(CountsBrokenError, match="'sequences'"):
        one.merged(ledger_of({"sequences": 6}))


def test_an_unknown_side_neither_holds_nor_breaks() -> None:
    ledger = ledger_of({"images in sequences": 3, "table rows": 60_000})  # dropped is not counted yet
    ledger.verify()
    balance = next(b for b in ledger.balances() if b.equation.left == ("images in sequences", "dropped"))
    assert balance == Balance(balance.equation, "train", None, 60_000)
    assert not balance.known
    assert not balance.holds


def test_a_ledger_survives_its_json() -> None:
    assert Ledger.model_validate_json(closed().model_dump_json()) == closed()
