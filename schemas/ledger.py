"""The ledger: how many samples stood at every station, and the equations that tie neighbours.

Here: stations, equations, the first one that fails and what it probably means. Not here: counting; each stage
counts its own bytes and enters what it found.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import DataError
from schemas.handles import SPLITS, Frozen, Split, Station

MEANING: dict[Station, str] = {
    "image header": "items that the image file's header promises",
    "label header": "items that the label file's header promises",
    "decoded images": "images decoded from the file's bytes",
    "decoded labels": "labels decoded from the file's bytes",
    "table rows": "rows read back from the Parquet table",
    "sequences": "sequences the network is given (first axis of x)",
    "targets": "targets the network is given (first axis of y)",
    "images in sequences": "images inside the sequences, by the bytes on disk",
    "labels in targets": "labels inside the targets, by the bytes on disk",
    "dropped": "images left over by T and dropped, as the configuration allows",
    "fitted": "sequences that the optimiser may learn from",
    "validation": "sequences held out for validation",
    "seen in an epoch": "sequences that the optimiser counted in each epoch",
    "evaluated": "images that the model answered",
    "predictions written": "rows read back from predictions.parquet",
}


class Entry(Frozen):
    """One count at one station of one split, and the stage that measured it."""

    split: Split
    station: Station
    count: int
    stage: str


@dataclass(frozen=True)
class Equation:
    """Counts at the left stations add up to the counts at the right ones, once all of them are known."""

    left: tuple[Station, ...]
    right: tuple[Station, ...]
    stage: str
    splits: tuple[Split, ...] = SPLITS

    def __str__(self) -> str:
        """Name the equation as people read it."""
        return f"{' + '.join(self.left)} = {' + '.join(self.right)}"


EQUATIONS: tuple[Equation, ...] = (
    Equation(("label header",), ("image header",), "parse"),
    Equation(("decoded images",), ("image header",), "parse"),
    Equation(("decoded labels",), ("label header",), "parse"),
    Equation(("decoded labels",), ("decoded images",), "parse"),
    Equation(("table rows",), ("decoded images",), "parse"),
    Equation(("sequences",), ("targets",), "reshape"),
    Equation(("images in sequences", "dropped"), ("table rows",), "reshape"),
    Equation(("labels in targets", "dropped"), ("table rows",), "reshape"),
    Equation(("fitted", "validation"), ("sequences",), "train", ("train",)),
    Equation(("seen in an epoch",), ("fitted",), "train", ("train",)),
    Equation(("evaluated",), ("images in sequences",), "evaluate", ("test",)),
    Equation(("predictions written",), ("evaluated",), "evaluate", ("test",)),
)


@dataclass(frozen=True)
class Balance:
    """One equation for one split: its two sides, or None while a station on it has not been counted."""

    equation: Equation
    split: Split
    left: int | None
    right: int | None

    @property
    def known(self) -> bool:
        """Whether both sides have been counted."""
        return self.left is not None and self.right is not None

    @property
    def holds(self) -> bool:
        """Whether both sides have been counted and agree."""
        return self.known and self.left == self.right


class CountsBrokenError(DataError):
    """An equation of the ledger does not hold. `equation` and `split` name it."""

    def __init__(self, found: str, expected: str, remedy: str, file: str | None = None, equation: str = "") -> None:
        super().__init__(found, expected, remedy, file)
        self.args = (found, expected, remedy, file, equation)
        self.equation = equation


class Ledger(Frozen):
    """All entries of a run so far, in the order of the stations."""

    entries: tuple[Entry, ...] = ()

    def count(self, split: Split, station: Station) -> int | None:
        """What was counted at one station, or None."""
        return next((e.count for e in self.entries if (e.split, e.station) == (split, station)), None)

    def entered(self, split: Split, stage: str, counts: dict[Station, int]) -> Ledger:
        """A ledger with further counts. A station is entered once: a second, different count is itself a finding."""
        ledger = self
        for station, count in counts.items():
            known = ledger.count(split, station)
            if known is not None and known != count:
                raise CountsBrokenError(
                    f"{stage} counted {count:,} at the station '{station}' of the {split} split, "
                    f"where {known:,} had been counted before",
                    "one count a station",
                    "A stage read something else than the stage before it wrote: rerun from the earlier stage",
                    equation=station,
                )
            if known is None:
                entry = Entry(split=split, station=station, count=count, stage=stage)
                ledger = Ledger(entries=(*ledger.entries, entry))
        return ledger

    def merged(self, other: Ledger) -> Ledger:
        """Both ledgers' entries, each station once."""
        ledger = self
        for entry in other.entries:
            ledger = ledger.entered(entry.split, entry.stage, {entry.station: entry.count})
        return ledger

    def balances(self) -> tuple[Balance, ...]:
        """Every equation of every split it applies to, with what is known of its sides."""
        return tuple(
            Balance(equation, split, self._side(split, equation.left), self._side(split, equation.right))
            for equation in EQUATIONS
            for split in equation.splits
        )

    def verify(self, file: str | None = None) -> None:
        """Raise the diagnosis of the first equation that is known and does not hold, of a file where one is counted."""
        for balance in self.balances():
            if balance.known and not balance.holds:
                raise diagnosis(balance, file)

    def verify_complete(self) -> None:
        """Raise unless every equation is known and holds: what a run must show before it is published."""
        self.verify()
        unknown = [f"{balance.equation} ({balance.split})" for balance in self.balances() if not balance.known]
        if unknown:
            raise CountsBrokenError(
                f"the ledger is not closed: {'; '.join(unknown)}",
                "a count at every station",
                "Rerun the stage that should have counted it",
                equation=unknown[0],
            )

    def _side(self, split: Split, stations: tuple[Station, ...]) -> int | None:
        counts = [self.count(split, station) for station in stations]
        return None if None in counts else sum(count for count in counts if count is not None)


def diagnosis(balance: Balance, file: str | None = None) -> CountsBrokenError:
    """The error for an equation that does not hold: where, how many on each side, the ratio and the likely cause."""
    left, right = balance.left or 0, balance.right or 0
    left_name, right_name = " + ".join(balance.equation.left), " + ".join(balance.equation.right)
    return CountsBrokenError(
        f"{balance.equation.stage}, {balance.split} split: {left:,} ({left_name}) against {right:,} ({right_name})"
        f"{_ratio(left, right)}",
        str(balance.equation),
        probable_cause(balance.equation, left, right),
        file,
        equation=str(balance.equation),
    )


def probable_cause(equation: Equation, left: int, right: int) -> str:
    """What most often makes these two counts differ, in one sentence that ends with what to do."""
    small, large = sorted((left, right))
    counterparts = {*equation.left, *equation.right}
    k = large // small if small else 0
    if counterparts == {"sequences", "targets"} and k > 1 and large // k == small:
        one, other = ("images", "labels") if left < right else ("labels", "images")
        least = k if large % small == 0 else large // (small + 1) + 1  # fewer to a sequence give as many sequences
        many = f"{k}" if least == k else f"{least} to {k}"
        rest = f", the last {large - k * small:,} left out," if least == k and large % k else ""
        return (
            f"Probably {many} consecutive {one} were grouped into one sequence{rest} while the {other} stayed one by "
            "one: group both (layout 'frames' gives every frame its label) or neither (layout 'pixels' keeps one image "
            "a sequence and splits its pixels into steps)"
        )
    if equation.stage == "reshape" and (left < right or counterparts == {"sequences", "targets"}):
        return (
            f"Probably the last {large - small:,} were cut off because T does not divide the number of images: "
            "choose a T that divides it, or allow the rest to be dropped with reshape.remainder = 'drop'"
        )
    if counterparts in ({"decoded images", "decoded labels"}, {"image header", "label header"}):
        return "Probably the label file belongs to another split or another version of the images: fetch both again"
    return f"Samples were {'lost' if left < right else 'duplicated'} in the stage '{equation.stage}': rerun it"


def _ratio(left: int, right: int) -> str:
    small, large = sorted((left, right))
    ratio = f"{large / small:.4g}" if small else ""
    if ratio == "1":  # 2,999 against 3,000 is no ratio that a person would see
        return f", a difference of {large - small:,}"
    return f", a ratio of {ratio}" if ratio else ""
