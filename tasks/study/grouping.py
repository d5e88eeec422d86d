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
    """What grouping T images into a sequence does to the counts while the labels stay one by one."""

    timesteps: int
    images: int
    sequences: int
    keras: str
    ledger: str


@dataclass(frozen=True)
class Regrouping:
    """The command that groups the labels too, and how many images and labels it leaves out of each split."""

    command: str
    left_out: dict[str, int]


def grouping_of(images: int, timesteps: int) -> Grouping:
    """The (N // T, T, pixels) proposal for more than one step, with the ledger's own words about its counts."""
    sequences = images // timesteps
    counted = Ledger().entered("train", "reshape", {"sequences": sequences, "targets": images})
    keras = f"Found {sequences} input samples and {images} target samples"
    try:
        counted.verify()
    except CountsBrokenError as broken:
        return Grouping(timesteps, images, sequences, keras, str(broken))
    raise ValueError(f"{images} images in sequences of {timesteps} break no equation: nothing is grouped")


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
