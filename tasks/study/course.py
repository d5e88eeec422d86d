"""How accuracy goes with T, in words: between the shapes of the question, from end to end, and whether at all.

Two accuracies are told apart where their intervals do not touch: rarer than they differ, so nothing is claimed that was
not seen. Not here: the reasons (reasons).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.study import RECIPES
from tasks.study.sentence import ASKED_T, Sentence
from tasks.wording import counted, number, percent

if TYPE_CHECKING:
    from schemas.study import RecipeName
    from tasks.study.summary import Setting, Summary

CLOSE: Final = 0.05  # accuracy that differs by no more is kept
_WHOSE: Final = {"question": "the question's recipe", "sound": "the sound one"}


@dataclass(frozen=True)
class Fall:
    """From one T to a later one under one recipe.

    Attributes:
        before: At the one.
        after: At the later one.
    """

    before: Setting
    after: Setting

    @property
    def is_seen(self) -> bool:
        """Whether accuracy is seen to be lower afterwards."""
        return self.after.interval[1] < self.before.interval[0]

    @property
    def is_rise(self) -> bool:
        """Whether it is seen to be higher."""
        return self.after.interval[0] > self.before.interval[1]

    @property
    def least(self) -> float:
        """What is lost at the least, by the intervals."""
        return self.before.interval[0] - self.after.interval[1]

    @property
    def most(self) -> float:
        """What may be lost at the most."""
        return self.before.interval[1] - self.after.interval[0]

    @property
    def keeps(self) -> bool:
        """Whether accuracy is seen to come close to what it was: its interval says so, not its mean."""
        return self.after.interval[0] >= self.before.accuracy - CLOSE

    @property
    def points(self) -> str:
        """What is lost on average, told."""
        return f"{100 * (self.before.accuracy - self.after.accuracy):.1f} points"

    @property
    def course(self) -> str:
        """From where to where."""
        return f"from {percent(self.before.accuracy)} to {percent(self.after.accuracy)}"


def answer(summary: Summary) -> list[Sentence]:
    """Why does accuracy fall? What was seen, of the first scan."""
    scan = summary.scans[0]
    asked, sound = (summary.series(scan, recipe) for recipe in RECIPES)
    if not any(setting.learned for setting in (*asked, *sound)):
        return [_nothing_learned(asked, sound), *_courses(summary)]
    return [*_between_the_shapes_asked_for(summary), *_from_end_to_end(asked, sound), *_courses(summary)]


def falls(summary: Summary) -> bool:
    """Whether accuracy is seen to fall under the question's recipe: to the question's T, or to the last."""
    asked = summary.series(summary.scans[0], "question")
    return any(Fall(asked[0], at(asked, t)).is_seen for t in (summary.near(ASKED_T), asked[-1].timesteps))


def at(series: tuple[Setting, ...], t: int) -> Setting:
    """The setting of one T."""
    return next(setting for setting in series if setting.timesteps == t)


def apart(one: Setting, other: Setting) -> bool:
    """Whether two accuracies are told apart."""
    return Fall(one, other).is_seen or Fall(one, other).is_rise


def unsettled(series: tuple[Setting, ...]) -> str:
    """What is said of accuracies that are not told apart."""
    return f"the intervals overlap, so {counted(len(series[0].results), 'seed')} cannot tell"


def _nothing_learned(asked: tuple[Setting, ...], sound: tuple[Setting, ...]) -> Sentence:
    best = max((*asked, *sound), key=lambda setting: setting.accuracy)
    return Sentence(
        "Nothing was learned here: under neither recipe, at no T, is accuracy seen to be above what always answering "
        f"the most frequent class gives, {percent(best.floor)} ({percent(best.accuracy)} at the best). More images or "
        "epochs are needed before anything can be said of steps.",
        "accuracy",
    )


def _between_the_shapes_asked_for(summary: Summary) -> list[Sentence]:
    """What the question saw, from its first shape to its second, and how much of that is the recipe's."""
    asked, sound = (summary.series(summary.scans[0], recipe) for recipe in RECIPES)
    first, t = asked[0].timesteps, summary.near(ASKED_T)
    if t in {first, asked[-1].timesteps}:
        return []
    pair = Fall(asked[0], at(asked, t)), Fall(sound[0], at(sound, t))
    shapes = ", the shapes of the question," if (first, t) == (1, ASKED_T) else ""
    return [
        Sentence(
            f"From T = {first} to T = {t}{shapes} accuracy goes {pair[0].course} under {_WHOSE['question']} and "
            f"{pair[1].course} under {_WHOSE['sound']}: {_whose(*pair)}.",
            "accuracy",
        )
    ]


def _whose(asked: Fall, sound: Fall) -> str:
    """How much of a fall under the question's recipe is the recipe's, by the intervals."""
    if not asked.is_seen:
        none = asked.keeps or asked.is_rise
        told = "no fall is seen" if none else f"{unsettled((asked.before,))} whether it falls"
        return f"{told} under {_WHOSE['question']}"
    if sound.keeps and not sound.is_seen:
        return "the fall is the recipe's"
    if 2 * sound.most <= asked.least:
        return "most of that fall is the recipe's"
    if sound.most < asked.least:
        return "the recipe makes that fall larger"
    return "how much of that is the recipe's, the intervals do not settle"


def _from_end_to_end(asked: tuple[Setting, ...], sound: tuple[Setting, ...]) -> list[Sentence]:
    if len(asked) == 1:
        return [Sentence("One T was measured: that says nothing of more steps.", "accuracy")]
    first, last = asked[0].timesteps, asked[-1].timesteps
    ends = f"At T = {last} accuracy is lower than at T = {first} under"
    question, usual = Fall(asked[0], asked[-1]), Fall(sound[0], sound[-1])
    if question.is_seen and usual.is_seen:
        return [Sentence(f"{ends} both recipes, {_both(question, usual)}.", "accuracy")]
    if question.is_seen:
        learned = usual.keeps and apart(usual.after, question.after) and usual.after.learned
        told = ": so many steps can be learned, but not so" if learned else ""
        text = f"{ends} {_WHOSE['question']}, by {question.points}; {_not_seen(usual, 'sound')}{told}."
    elif usual.is_seen:
        text = f"{ends} {_WHOSE['sound']}, by {usual.points}; {_not_seen(question, 'question')}."
    else:
        neither = f"Under neither recipe is accuracy seen to be lower at T = {last} than at T = {first}"
        text = f"{neither}: {_not_seen(question, 'question')}; {_not_seen(usual, 'sound')}."
    return [Sentence(text, "accuracy")]


def _both(question: Fall, usual: Fall) -> str:
    """What is said of a fall under both recipes: that both learn less of so many steps, not that nobody can."""
    point = usual.after.results[0].point
    trained = f"{counted(point.epochs, 'epoch')} of {number(point.images)} images"
    why = (
        "the recipe decides how much"
        if usual.most < question.least
        else f"so many steps ask for more than either recipe gives in {trained}"
    )
    return f"by {question.points} under the question's and by {usual.points} under the sound one: {why}"


def _not_seen(fall: Fall, recipe: RecipeName) -> str:
    """What a recipe does that is not seen to fall. Not being seen to fall is not yet to be seen not to fall."""
    under = f"under {_WHOSE[recipe]}"
    if fall.is_rise:
        return f"{under} it rises {fall.course}"
    if fall.keeps:
        return (
            f"{under} its interval at T = {fall.after.timesteps} begins at {percent(fall.after.interval[0])}, no more "
            f"than {100 * CLOSE:.0f} points below the {percent(fall.before.accuracy)} of T = {fall.before.timesteps}"
        )
    return f"{under} it goes {fall.course}, but {unsettled((fall.before,))}"


def _courses(summary: Summary) -> list[Sentence]:
    scan = summary.scans[0]
    return [
        Sentence(f"Under the {recipe} recipe (scan {scan}): {_course(summary.series(scan, recipe))}.", "accuracy")
        for recipe in RECIPES
    ]


def _course(series: tuple[Setting, ...]) -> str:
    """One recipe's accuracies: at the ends, where the best is, and where it is first seen to be lower than at first."""
    first, last = series[0], series[-1]
    if len(series) == 1:
        return f"{_told(first)}, measured at no other T"
    best = max(series, key=lambda setting: setting.accuracy)
    lower = next((setting for setting in series[1:] if Fall(first, setting).is_seen), None)
    alike = "" if best is first or apart(best, first) else ", not told apart from the first"
    told = f"{_told(first)}, {_told(last)}; the best is {_told(best)}{alike}"
    if lower is None:
        return f"{told}; no T is seen to be lower than the first"
    return f"{told}; the first T that is seen to be lower than T = {first.timesteps} is {_told(lower)}"


def _told(setting: Setting) -> str:
    return f"{percent(setting.accuracy)} at T = {setting.timesteps}"
