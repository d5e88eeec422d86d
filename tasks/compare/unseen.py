"""Test images that neither of two models has learned from: those on which they are compared.

Data that are divided anew move images between the splits: a champion would be asked about images that it knows by
heart, and could hardly be beaten. Not here: what a model has learned from (tasks/learned).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.files import RUNS
from tasks.compare.answers import Incomparable
from tasks.learned import digests_of, learned_from, learned_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from schemas.champion import Champion
    from schemas.handles import Handle, Table
    from tasks.store import Store


@dataclass(frozen=True)
class Unseen:
    """Which test images count.

    Attributes:
        rows: (N,) whether neither model has learned from the image.
        by_new: Images that the new model has learned from.
        by_champion: Images that the champion has learned from.
        new_known: Whether all is known that the new model has learned from.
        champion_known: The same of the champion.
    """

    rows: NDArray[np.bool_]
    by_new: int
    by_champion: int
    new_known: bool
    champion_known: bool

    def require_any(self, answered: int) -> None:
        """Raise Incomparable where none is left of the first images, as many as were answered."""
        if not self.rows[:answered].any():
            raise Incomparable(
                f"of the {len(self.rows):,} test images this model has learned from {self.by_new:,} and the champion "
                f"from {self.by_champion:,}, so that none is left to compare them on"
            )

    def told(self, *, rescored: bool) -> str:
        """What was left out, and what could not be looked for, to end a sentence with; empty where there is nothing.

        Of a champion that answered these test images when it was published, its receipt told what it knew of them.
        """
        parts = []
        if left := len(self.rows) - int(self.rows.sum()):
            parts.append(
                f"compared without {left:,} of {len(self.rows):,} test images: this model has learned from "
                f"{self.by_new:,}, the champion from {self.by_champion:,}"
            )
        if not self.new_known:
            parts.append("what the run that this one began with had learned from is not on record")
        if rescored and not self.champion_known:
            parts.append("what the champion has learned from is not on record, so it may know some of these images")
        return "".join(f"; {part}" for part in parts)


def unseen(store: Store, tables: tuple[Table, Table], start: Handle | None, champion: Champion) -> Unseen:
    """Which test images neither model has learned from.

    Args:
        store: Where all of them are.
        tables: The splits of the new model, the training one first.
        start: The published model whose weights the new one began with.
        champion: The other model.
    """
    train, test = tables
    new = learned_from(store, train, store.root / start.place if start else None)
    old = learned_in(store.root / RUNS / champion.run)
    images = digests_of(store, test)
    of_new, of_old = new.among(images), old.among(images)
    return Unseen(~(of_new | of_old), int(of_new.sum()), int(of_old.sum()), new.whole, old.whole)
