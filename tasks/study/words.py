"""The study's answers in words. Every sentence names the figure that shows what it says; every number is measured.

Where a study found something else than usual, the words say what it found. Not here: figures, page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.configuration import grid_of
from schemas.study import RECIPES, recipe_of
from tasks.study.grouping import grouping_of
from tasks.study.summary import blank_steps
from tasks.wording import number, percent, seconds

if TYPE_CHECKING:
    from schemas.configuration import Scan
    from schemas.study import RecipeName
    from tasks.study.summary import Setting, Summary

ASKED_T: Final = 16  # the question's
TOLD_T: Final = 28  # where one T stands for all: long enough, and still learned well
_FOLLOWED_T: Final = (TOLD_T, 112, 784)
CLOSE: Final = 0.05  # accuracy that differs by no more is kept
SEEN_SATURATED: Final = 0.01  # of the gates; fewer are not worth a reason
_SUPERSCRIPTS: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
FIGURES: Final = {
    "steps": "What a step sees",
    "counts": "The counts",
    "accuracy": "Accuracy against T",
    "parameters": "Weights against T",
    "saturation": "Saturated gates",
    "loss": "Gradient at the output",
    "gradient": "Gradient that reaches the first steps",
    "time": "Time of an epoch",
    "after": "Accuracy after k steps",
}


@dataclass(frozen=True)
class Sentence:
    """One sentence, and the figure of the page that shows it."""

    text: str
    figure: str

    @property
    def unbroken(self) -> str:
        """The text with its equations kept on one line."""
        return self.text.replace(" = ", "\u00a0=\u00a0").replace(" / ", "\u00a0/\u00a0")


def cut_into(summary: Summary) -> int:
    """The T that stands for all where an image is cut into steps: the studied one that is nearest to the question's."""
    return summary.near(ASKED_T)


def grouped_by(summary: Summary) -> int:
    """The T that stands for all where images are grouped: the same, but of one image nothing is grouped."""
    t = cut_into(summary)
    return t if t > 1 else ASKED_T


def why_so_many_features(summary: Summary, images: int) -> list[Sentence]:
    """Why 49? The answer for the T that is nearest to the question's."""
    t = cut_into(summary)
    f = next(s.features for s in summary.settings if s.timesteps == t)
    pixels = t * f
    grouping = grouping_of(images, grouped_by(summary))
    many = grouping.timesteps
    return [
        Sentence(
            f"An image has {number(pixels)} pixels, and {t} step{' has' if t == 1 else 's have'} to read each of them "
            f"once: one step sees {number(pixels)} / {t} = {number(f)}. So F = {number(pixels)} / T, always.",
            "steps",
        ),
        Sentence(
            f"Steps are cut inside an image, so the number of samples does not change: {number(images)} images are "
            f"{number(images)} sequences, whatever T is.",
            "counts",
        ),
        Sentence(
            f"The shape (N // {many}, {many}, {pixels}) does something else: it makes one sequence of {many} different "
            f"images. Then there are {number(grouping.sequences)} sequences and still {number(images)} labels, and "
            "training cannot begin.",
            "counts",
        ),
    ]


def row_width(item: tuple[int, ...]) -> int:
    """Values in a row of an image of this shape, channels included; rows are those of `grid_of`."""
    _, columns, channels = grid_of(item)
    return columns * channels


def why_accuracy_changes(summary: Summary, width: int) -> dict[str, list[Sentence]]:
    """Why does accuracy fall? The answer, then what this study measured of each reason, by what the reason hangs on.

    Of the first scan, where scans do not matter; `width` is the pixels of an image's row. A reason of which nothing was
    measured is left out.
    """
    scan = summary.scans[0]
    asked, sound = summary.series(scan, "question"), summary.series(scan, "sound")
    found = {
        "The answer": [
            _in_short(asked, sound),
            *_between_the_shapes_asked_for(asked, sound, summary.near(ASKED_T)),
            _course("question", scan, asked),
            _course("sound", scan, sound),
        ],
        "What more steps change": [
            *_gradients(asked, sound),
            *_tail(asked),
            *_weights(asked),
            *_cut_rows(summary, width),
            *_scans_compared(summary),
            *_knows(summary, scan),
            *_times(asked),
        ],
        "What the recipe changes": [
            _recipes_compared(asked, sound, summary.near(ASKED_T)),
            _gates(asked, sound),
            _losses(asked, sound),
        ],
    }
    return {about: sentences for about, sentences in found.items() if sentences}


def why_it_changes_asked(summary: Summary) -> str:
    """The second question, as it stands after what the study found under the question's recipe."""
    falls = _falls(summary.series(summary.scans[0], "question"))
    return f"Why does accuracy {'fall' if falls else 'change'} with more steps?"


def followed(summary: Summary) -> tuple[int, ...]:
    """The T of which the page shows what the LSTM knows after each step; of one step there is nothing to show."""
    return tuple(sorted({*map(summary.near, _FOLLOWED_T), summary.timesteps[-1]} - {1}))


def _in_short(asked: tuple[Setting, ...], sound: tuple[Setting, ...]) -> Sentence:
    return Sentence(_answer(asked, sound), "accuracy")


def _answer(asked: tuple[Setting, ...], sound: tuple[Setting, ...]) -> str:
    """Which recipe's accuracy falls, by how much; and of one that is not seen to fall, whether it was seen not to."""
    if len(asked) == 1:
        return "One T was measured: that says nothing of more steps."
    if _falls(asked) and _falls(sound):
        return _both_fall(asked, sound)
    under_asked, under_sound = _not_falling(asked, "the question's"), _not_falling(sound, "the sound one")
    if _falls(asked):
        learned = _keeps(sound) and sound[-1].interval[0] > asked[-1].interval[1]
        told = ": more steps can be learned, but not so" if learned else ""
        return f"It falls under the question's recipe, by {_lost(asked)}; {under_sound}{told}."
    if _falls(sound):
        return f"It falls under the sound recipe, by {_lost(sound)}; {under_asked}."
    ends = f"from T = {asked[0].timesteps} to T = {asked[-1].timesteps}"
    return f"Under neither recipe is it seen to fall {ends}: {under_asked}; {under_sound}."


def _both_fall(asked: tuple[Setting, ...], sound: tuple[Setting, ...]) -> str:
    least, most = asked[0].interval[0] - asked[-1].interval[1], sound[0].interval[1] - sound[-1].interval[0]
    decides = ", and the recipe decides how much" if most < least else ""
    return (
        f"It falls under both recipes, by {_lost(asked)} under the question's and by {_lost(sound)} under the sound "
        f"one: more steps are harder to learn in themselves{decides}."
    )


def _lost(series: tuple[Setting, ...]) -> str:
    return f"{100 * (series[0].accuracy - series[-1].accuracy):.1f} points"


def _falls(series: tuple[Setting, ...]) -> bool:
    return series[-1].interval[1] < series[0].interval[0]


def _keeps(series: tuple[Setting, ...]) -> bool:
    """Whether the last T is seen to come close to what the first came to: its interval says so, not its mean."""
    return series[-1].interval[0] >= series[0].accuracy - CLOSE


def _not_falling(series: tuple[Setting, ...], recipe: str) -> str:
    """What a recipe does that is not seen to fall. Not being seen to fall is not yet to be seen not to fall."""
    first, last = series[0], series[-1]
    if last.interval[0] > first.interval[1]:
        return f"under {recipe} it rises from {percent(first.accuracy)} to {percent(last.accuracy)}"
    if _keeps(series):
        return (
            f"under {recipe} its interval at T = {last.timesteps} begins at {percent(last.interval[0])}, no more than "
            f"{100 * CLOSE:.0f} points below the {percent(first.accuracy)} of T = {first.timesteps}"
        )
    return (
        f"under {recipe} it goes from {percent(first.accuracy)} to {percent(last.accuracy)}, which {_seeds(series)} "
        "cannot tell from chance"
    )


def _seeds(series: tuple[Setting, ...]) -> str:
    n = len(series[0].results)
    return "one seed" if n == 1 else f"{n} seeds"


def _between_the_shapes_asked_for(asked: tuple[Setting, ...], sound: tuple[Setting, ...], t: int) -> list[Sentence]:
    """What the question saw: from its first shape to its second."""
    first = asked[0].timesteps
    if first == t:
        return []
    courses = [
        f"from {percent(series[0].accuracy)} to {percent(_at(series, t).accuracy)} under the {recipe}"
        for recipe, series in (("question's recipe", asked), ("sound one", sound))
    ]
    return [Sentence(f"From T = {first} to T = {t} it goes {' and '.join(courses)}.", "accuracy")]


def _course(recipe: RecipeName, scan: Scan, series: tuple[Setting, ...]) -> Sentence:
    first, last = series[0], series[-1]
    best = max(series, key=lambda setting: setting.accuracy)
    begins = f"Under the {recipe} recipe (scan {scan}), accuracy"
    if len(series) == 1:
        return Sentence(f"{begins} was measured at one T: {_accuracy_told(first)}.", "accuracy")
    return Sentence(
        f"{begins} {_moves(series)}: {_accuracy_told(first)}, {_accuracy_told(last)}{_dip(series)}; "
        f"best is T = {best.timesteps} with {percent(best.accuracy)}.",
        "accuracy",
    )


def _dip(series: tuple[Setting, ...]) -> str:
    """Where between the ends accuracy is seen to be lower than at both, in words; else nothing."""
    lowest = min(series, key=lambda setting: setting.accuracy)
    lower = lowest.interval[1] < min(series[0].interval[0], series[-1].interval[0])
    return f", and lowest between them with {_accuracy_told(lowest)}" if lower else ""


def _accuracy_told(setting: Setting) -> str:
    return f"{percent(setting.accuracy)} at T = {setting.timesteps}"


def _moves(series: tuple[Setting, ...]) -> str:
    if _falls(series):
        return "falls with T"
    if series[-1].interval[0] > series[0].interval[1]:
        return "rises with T"
    return f"is not seen to differ between the ends by more than {_seeds(series)} can tell from chance"


def _recipes_compared(asked: tuple[Setting, ...], sound: tuple[Setting, ...], t: int) -> Sentence:
    one, other = _at(asked, t), _at(sound, t)
    apart = one.interval[1] < other.interval[0] or other.interval[1] < one.interval[0]
    beside = "" if len(asked) == 1 else " beside T"
    chance = f"is not seen to matter here by more than {_seeds(asked)} can tell from chance"
    matters = f"matters{beside}" if apart else chance
    return Sentence(
        f"The recipe {matters}: with the same LSTM, images and epochs, T = {t} comes to "
        f"{percent(one.accuracy)} under the question's recipe and to {percent(other.accuracy)} under the sound one.",
        "accuracy",
    )


def _cut_rows(summary: Summary, width: int) -> list[Sentence]:
    """Whether steps that cut rows in pieces of other sizes do worse than the T beside them whose steps do not."""
    series = summary.series("rows", "sound")
    fits = [s.features % width == 0 or width % s.features == 0 for s in series]
    cut = [k for k in range(1, len(series) - 1) if not fits[k] and fits[k - 1] and fits[k + 1]]
    if not cut:
        return []
    k = min(cut, key=lambda k: abs(series[k].timesteps - ASKED_T))
    before, here, after = series[k - 1 : k + 2]
    worse = sum(series[k].accuracy < min(series[k - 1].accuracy, series[k + 1].accuracy) for k in cut)
    matters = "seems to matter too" if 2 * worse >= len(cut) else "is not seen to matter here"
    return [
        Sentence(
            f"Where a step ends {matters}: {number(here.features)} pixels are no whole rows of {width}, and T = "
            f"{here.timesteps} comes to {percent(here.accuracy)}, beside {percent(before.accuracy)} at T = "
            f"{before.timesteps} and {percent(after.accuracy)} at T = {after.timesteps}, whose steps fit the rows "
            f"(sound recipe; of {len(cut)} such T between two that fit, {worse} did worse than both).",
            "accuracy",
        )
    ]


def _scans_compared(summary: Summary) -> list[Sentence]:
    """Whether the order in which pixels are read matters, at one T that is named beforehand; and where it does most."""
    if len(summary.scans) == 1:
        return []
    t = summary.near(TOLD_T)
    settings = _by_scan(summary, t)
    lows, highs = zip(*(setting.interval for setting in settings), strict=True)
    chance = f"is not seen to matter by more than {_seeds(settings)} can tell from chance"
    matters = "matters too" if max(lows) > min(highs) else chance
    told = ", ".join(f"{percent(setting.accuracy)} by scan {setting.scan}" for setting in settings)
    return [
        Sentence(
            f"The order in which the same pixels are read {matters}: the sound recipe comes to {told} at T = {t}"
            f"{_furthest_apart(summary, t)}.",
            "accuracy",
        )
    ]


def _by_scan(summary: Summary, t: int) -> tuple[Setting, ...]:
    return tuple(_at(summary.series(scan, "sound"), t) for scan in summary.scans)


def _furthest_apart(summary: Summary, told: int) -> str:
    """The T at which the scans differ most, where it is not the one that was told of."""
    accuracies = {t: [setting.accuracy for setting in _by_scan(summary, t)] for t in summary.timesteps}
    most = max(accuracies, key=lambda t: max(accuracies[t]) - min(accuracies[t]))
    if len(accuracies) == 1:
        return ""
    if most == told:
        return ", where they are furthest apart"
    there = ", ".join(percent(accuracy) for accuracy in accuracies[most])
    return f", and to {there} at T = {most}, where they are furthest apart"


def _weights(series: tuple[Setting, ...]) -> list[Sentence]:
    if len(series) == 1:
        return []
    told = ", ".join(f"{number(s.results[0].lstm_parameters)} at T = {s.timesteps}" for s in _ends_and_middle(series))
    units = recipe_of(series[0].results[0].point)[0].layers[0].units
    return [
        Sentence(
            f"More steps make a smaller network: with {units} units, 4h(f + h + 1) weights are {told}. "
            "A step that sees fewer pixels has fewer weights to see them with.",
            "parameters",
        )
    ]


def _gates(asked: tuple[Setting, ...], sound: tuple[Setting, ...]) -> Sentence:
    raw = ", ".join(f"{percent(s.saturated)} at T = {s.timesteps}" for s in _ends_and_middle(asked))
    scaled = ", ".join(f"{percent(s.saturated)}" for s in _ends_and_middle(sound))
    most, most_scaled = (max(s.saturated for s in _ends_and_middle(series)) for series in (asked, sound))
    if most < SEEN_SATURATED or most <= most_scaled:
        text = (
            f"Raw pixels are not seen to push the gates towards 0 or 1 here: before anything is learned, saturated are "
            f"{raw}; with scaled pixels {scaled}."
        )
    else:
        text = (
            f"Raw pixels push the gates towards 0 or 1 before anything is learned: saturated are {raw}; with scaled "
            f"pixels {scaled}. A saturated gate hardly learns.{_gates_with_steps(asked)}"
        )
    return Sentence(text, "saturation")


def _gates_with_steps(asked: tuple[Setting, ...]) -> str:
    if len(asked) == 1:
        return ""
    if asked[-1].saturated > asked[0].saturated:
        return " There are more at the last T than at the first."
    changes = "falls" if _falls(asked) else "changes"
    return (
        " There are no more at the last T than at the first: a reason why recipes differ, none why accuracy "
        f"{changes} with T."
    )


def _losses(asked: tuple[Setting, ...], sound: tuple[Setting, ...]) -> Sentence:
    shares = [one.output_gradient / other.output_gradient for one, other in zip(asked, sound, strict=True)]
    low, high = min(shares), max(shares)
    where = f"at T = {asked[0].timesteps}" if len(asked) == 1 else "over all T"
    told = f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"
    teacher = "is a quiet teacher" if high < 1 else "is not seen to be a quieter teacher"
    return Sentence(
        f"Mean squared error behind a softmax {teacher}: {where} it gives the output {told} times the gradient "
        "that cross-entropy gives.",
        "loss",
    )


def _gradients(asked: tuple[Setting, ...], sound: tuple[Setting, ...]) -> list[Sentence]:
    known = [s for s in asked if s.gradient_ratio is not None]
    if not known:
        return []
    last = known[-1]
    told = " and ".join(f"{power_told(s.gradient_ratio)} at T = {s.timesteps}" for s in dict.fromkeys((known[0], last)))
    found = [
        Sentence(
            f"Learning has to reach back through every step: of the gradient at the last quarter of the steps, the "
            f"first quarter receives {told} (the question's recipe, before training).",
            "gradient",
        )
    ]
    other = _at(sound, last.timesteps)
    if other.gradient_ratio is not None and other.gradient_ratio_chrono is not None:
        found.append(
            Sentence(
                f"Scaled pixels alone give {power_told(other.gradient_ratio)} at T = {last.timesteps}; biases drawn "
                f"for long memory (chrono initialisation) would give {power_told(other.gradient_ratio_chrono)}.",
                "gradient",
            )
        )
    return found


def _tail(series: tuple[Setting, ...]) -> list[Sentence]:
    last = series[-1]
    blank, steps = last.results[0].blank_tail, blank_steps(last)
    if not steps or last.timesteps == 1:
        return []
    return [
        Sentence(
            f"The median image ends in {number(blank)} blank pixels, so at T = {last.timesteps} the last "
            f"{number(steps)} step{' reads' if steps == 1 else 's read'} nothing, and what was seen has to be kept "
            "through them.",
            "after",
        )
    ]


def _knows(summary: Summary, scan: Scan) -> list[Sentence]:
    t = summary.near(TOLD_T)
    recipes = RECIPES if t in followed(summary) else ()
    return [Sentence(_how_early(recipe, _at(summary.series(scan, recipe), t)), "after") for recipe in recipes]


def _how_early(recipe: RecipeName, setting: Setting) -> str:
    """After how many steps the LSTM knows; one that knows no more at the end than at first, or less, is not early."""
    after, t = setting.accuracy_after, setting.timesteps
    lstm, first, best, last = f"With T = {t} the {recipe} recipe's LSTM", after[0], max(after), after[-1]
    if last < 0.9 * best:
        return (
            f"{lstm} knows most after {after.index(best) + 1} of {t} steps, {percent(best)}, and forgets: at the end "
            f"it is {percent(last)}."
        )
    if first >= 0.9 * last:
        return f"{lstm} knows hardly more after {t} steps, {percent(last)}, than after the first, {percent(first)}."
    k = next(k for k, share in enumerate(after, 1) if share >= 0.9 * last)
    return f"{lstm} comes to nine tenths of its accuracy after {k} of {t} steps."


def _times(series: tuple[Setting, ...]) -> list[Sentence]:
    """What steps cost, where an epoch was timed that did not begin with compiling the network."""
    first, last = series[0], series[-1]
    if len(series) == 1 or in_first_epoch(series):
        return []
    short, long = seconds(first.seconds_of_ten_thousand), seconds(last.seconds_of_ten_thousand)
    slower = last.seconds_of_ten_thousand > first.seconds_of_ten_thousand
    cost = "And steps cost time, for they cannot be computed side by side" if slower else "More steps took no more time"
    return [
        Sentence(
            f"{cost}: 10,000 images take {short} at T = {first.timesteps} and {long} at T = {last.timesteps}.", "time"
        )
    ]


def in_first_epoch(settings: tuple[Setting, ...]) -> bool:
    """Whether a time is that of a first epoch, in which the network is compiled: of one epoch there is no other."""
    return any(result.point.epochs == 1 for setting in settings for result in setting.results)


def _at(series: tuple[Setting, ...], t: int) -> Setting:
    return next(setting for setting in series if setting.timesteps == t)


def _ends_and_middle(series: tuple[Setting, ...]) -> tuple[Setting, ...]:
    middle = min(series, key=lambda setting: abs(setting.timesteps - ASKED_T))
    return tuple(dict.fromkeys((series[0], middle, series[-1])))


def power_told(value: float | None) -> str:
    """A share as people say it: in percent, or as a power of ten where it is tiny."""
    if value is None:
        return "an unknown share"
    if value == 0:
        return "less than a number can hold"
    if value >= 0.001:
        return percent(value)
    mantissa, _, power = f"{value:.0e}".partition("e")
    return f"{mantissa} × 10{str(int(power)).translate(_SUPERSCRIPTS)}"
