"""The advice to take T images for one sequence: what it does to the counts, and the command that does it right.

Not here: the sentences about it (words), the page.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.ledger import CountsBrokenError, Ledger
from schemas.presets import configured

if TYPE_CHECKING:
    from schemas.design import StudySubject

_PRESET: Final = "answer-frames"


@dataclass(frozen=True)
class Grouping:
    """What grouping T images into a sequence does to the counts while the labels stay one by one.

    `refusals` is what a person without a ledger gets to read, by who says it.
    """

    timesteps: int
    images: int
    sequences: int
    refusals: dict[str, str]
    ledger: str


@dataclass(frozen=True)
class Regrouping:
    """The command that groups the labels too, and how many images and labels it leaves out of each split."""

    command: str
    left_out: dict[str, int]


def grouping_of(images: int, timesteps: int, pixels: int) -> Grouping:
    """The (N // T, T, pixels) proposal for more than one step, with the ledger's own words about its counts."""
    sequences = images // timesteps
    counted = Ledger().entered("train", "reshape", {"sequences": sequences, "targets": images})
    try:
        counted.verify()
    except CountsBrokenError as broken:
        refusals = _refusals(images, sequences, timesteps, pixels)
        return Grouping(timesteps, images, sequences, refusals, str(broken))
    raise ValueError(f"{images} images in sequences of {timesteps} break no equation: nothing is grouped")


def _refusals(images: int, sequences: int, timesteps: int, pixels: int) -> dict[str, str]:
    """Who refuses the proposal, and in which words: NumPy where T leaves images over, else Keras."""
    if images % timesteps:
        shape = f"({sequences},{timesteps},{pixels})"
        return {"NumPy, which refuses the shape": f"cannot reshape array of size {images * pixels} into shape {shape}"}
    return {
        "Keras, as it was then": f"Found {sequences} input samples and {images} target samples",
        "Keras 3": "Data cardinality is ambiguous. Make sure all arrays contain the same number of samples."
        f"'x' sizes: {sequences} 'y' sizes: {images}",
    }


def regrouping_of(subject: StudySubject, images: int, timesteps: int) -> Regrouping | None:
    """How the data of a study are grouped with their labels; None where a split is shorter than one sequence."""
    counts = {"training": images, "test": subject.test_images}
    if min(counts.values()) < timesteps:
        return None
    left_out = {split: count % timesteps for split, count in counts.items()}
    parts = ["stepwise", "run", *_data_of(subject), "--preset", _PRESET]
    if timesteps != configured(_PRESET).reshape.timesteps:
        parts += ["--set", f"reshape.timesteps={timesteps}"]
    if any(left_out.values()):  # else the run stops and says so
        parts += ["--set", "reshape.remainder=drop"]
    return Regrouping(shlex.join(parts), left_out)


def _data_of(subject: StudySubject) -> list[str]:
    """The options that name the data: a folder is in no catalog."""
    if subject.data:
        return ["--data", str(subject.data)]
    return [*(part for path in subject.catalogs for part in ("--catalog", str(path))), "--dataset", subject.dataset]
