"""The study's answers to the two questions. Every sentence names the figure that shows it; every number is measured.

Where a study found something else than usual, the words say what it found. Here: why F is what it is, and the order of
what is said of accuracy. Not here: how accuracy goes (course), the reasons (reasons), figures, page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.configuration import grid_of
from tasks.study import course, reasons
from tasks.study.grouping import grouping_of
from tasks.study.sentence import ASKED_T, Sentence
from tasks.wording import counted, number

if TYPE_CHECKING:
    from tasks.study.summary import Summary


def row_width(item: tuple[int, ...]) -> int:
    """Values in a row of an image of this shape, channels included; rows are those of `grid_of`."""
    _, columns, channels = grid_of(item)
    return columns * channels


def values_of(summary: Summary) -> int:
    """Values of an image: its pixels, where it has one channel."""
    return summary.settings[0].timesteps * summary.settings[0].features


def cut_into(summary: Summary) -> int:
    """The T that stands for all where an image is cut into steps: the question's, or the studied one nearest to it."""
    return ASKED_T if values_of(summary) % ASKED_T == 0 else summary.near(ASKED_T)


def grouped_by(summary: Summary) -> int:
    """The T that stands for all where images are grouped: the same, but of one image nothing is grouped."""
    t = cut_into(summary)
    return t if t > 1 else ASKED_T


def why_so_many_features(summary: Summary, images: int) -> list[Sentence]:
    """Why 49? The answer for the question's T."""
    t, pixels = cut_into(summary), values_of(summary)
    grouping = grouping_of(images, grouped_by(summary), pixels)
    many = grouping.timesteps
    return [
        Sentence(
            f"An image has {number(pixels)} pixels, and {t} step{' has' if t == 1 else 's have'} to read each of them "
            f"once: one step sees {number(pixels)} / {t} = {number(pixels // t)}. So F = {number(pixels)} / T, always.",
            "steps",
        ),
        Sentence(
            f"Steps are cut inside an image, so the number of samples does not change: {counted(images, 'image')} are "
            f"{counted(images, 'sequence')}, whatever T is.",
            "counts",
        ),
        Sentence(
            f"The shape (N // {many}, {many}, {pixels}) does something else: it makes one sequence of {many} different "
            f"images. That leaves {counted(grouping.sequences, 'sequence')} for {counted(images, 'label')}, and "
            "training cannot begin.",
            "counts",
        ),
    ]


def why_accuracy_changes(summary: Summary, width: int) -> dict[str, list[Sentence]]:
    """Why does accuracy fall? The answer, then what this study measured of each reason, by what the reason hangs on.

    Of the first scan, where scans do not matter; `width` is the values of an image's row.
    """
    found = {
        "The answer": [*_how_many_seeds(summary), *course.answer(summary)],
        "What the recipe changes": reasons.of_the_recipe(summary),
        "What more steps change": reasons.of_the_steps(summary, width),
    }
    return {about: sentences for about, sentences in found.items() if sentences}


def why_it_changes_asked(summary: Summary) -> str:
    """The second question, as it stands after what the study found under the question's recipe."""
    return f"Why does accuracy {'fall' if course.falls(summary) else 'change'} with more steps?"


def _how_many_seeds(summary: Summary) -> list[Sentence]:
    """A word of caution where one seed was trained: an interval over images knows nothing of other seeds."""
    if summary.seeds > 1:
        return []
    return [Sentence("Each setting was trained once: what other seeds would come to is not known.", "accuracy")]
