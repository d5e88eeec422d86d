"""Test images that a model or the champion has learned from: on these, what was learned by heart looks like skill.

Data that are divided anew move images between the splits: a champion would be asked about images that it knows, and
could hardly be beaten. Not here: what a model has learned from (tasks/learned).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from schemas.files import RUNS
from tasks.compare.incomparable import Incomparable
from tasks.learned import digests_of, learned_from, learned_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from schemas.champion import Champion
    from schemas.handles import Handle, Table
    from tasks.store import Store


@dataclass(frozen=True)
class Seen:
    """Which of the test images that were answered each model has learned from.

    Attributes:
        by_new: (N,) whether the new model has.
        by_champion: (N,) whether the champion has; nobody's where there is none.
        new_known: Whether all is on record that the new model has learned from and the champion has not.
        champion_known: The same of the champion.
    """

    by_new: NDArray[np.bool_]
    by_champion: NDArray[np.bool_]
    new_known: bool
    champion_known: bool

    @property
    def by_neither(self) -> NDArray[np.bool_]:
        """(N,): the images on which the two are compared."""
        neither: NDArray[np.bool_] = ~(self.by_new | self.by_champion)
        return neither

    def require_comparable(self, error_rate: float) -> None:
        """Raise Incomparable where too few images are left to find anybody better, or what may be left out is unknown.

        A champion of which not all is known may be flattered, which keeps it; a new model would be promoted for it.
        """
        if not self.new_known:
            raise Incomparable("what the run that this one began with had learned from is not wholly on record")
        left = int(self.by_neither.sum())
        if 0.5**left > error_rate:
            raise Incomparable(
                f"{left:,} of {len(self.by_new):,} test images are left that neither has learned from, too few to tell "
                f"them apart: {self._counts}"
            )

    @property
    def told(self) -> str:
        """What was left out, and what could not be looked for, to end a sentence with; empty where there is nothing."""
        parts = []
        if left_out := int((~self.by_neither).sum()):
            parts.append(f"compared without {left_out:,} of {len(self.by_new):,} test images: {self._counts}")
        if not self.champion_known:
            parts.append("what the champion has learned from is not wholly on record: it may know some of these images")
        return "".join(f"; {part}" for part in parts)

    @property
    def _counts(self) -> str:
        return f"this model has learned from {self.by_new.sum():,}, the champion from {self.by_champion.sum():,}"


def seen_by(
    store: Store, tables: tuple[Table, Table], answered: int, start: Handle | None, champion: Champion | None
) -> Seen:
    """Which test images the models have learned from.

    Args:
        store: Where all of them are.
        tables: The splits of the new model, the training one first.
        answered: How many of the test images the new model answered, the first ones.
        start: The published model whose weights the new one began with.
        champion: The other model; None: there is none.
    """
    train, test = tables
    images = digests_of(store, test.table)[:answered]
    new = learned_from(store, train.table, store.root / start.place if start else None)
    by_new = new.among(images)
    if champion is None:
        return Seen(by_new, np.zeros_like(by_new), new.whole, champion_known=True)
    old = learned_in(store, store.root / RUNS / champion.run)
    began_with_it = start is not None and start.digest == champion.weights
    return Seen(by_new, old.among(images), new.whole or began_with_it, old.whole)
