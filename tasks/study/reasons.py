"""The reasons, in words: what more steps change and what the recipe changes, as far as this study measured it.

A reason of which nothing was measured is left out. Not here: how accuracy goes (course).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from schemas.study import RECIPES, recipe_of
from tasks.study.course import apart, at, unsettled
from tasks.study.sentence import ASKED_T, Sentence
from tasks.study.summary import blank_steps
from tasks.wording import counted, number, percent, seconds

if TYPE_CHECKING:
    from schemas.study import RecipeName
    from tasks.study.summary import Setting, Summary

TOLD_T: Final = 28  # where one T stands for all: long enough, and still learned well
_FOLLOWED_T: Final = (TOLD_T, 112, 784)
SEEN_SATURATED: Final = 0.01  # of the gates; fewer are not worth a reason
_ALIKE: Final = 1.2  # gradients that differ by a smaller factor are told as no different
_DIVIDING: Final = ("adam", "adamw", "rmsprop")  # optimisers whose steps do not grow with the gradient's scale
_SUPERSCRIPTS: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def of_the_steps(summary: Summary, width: int) -> list[Sentence]:
    """What more steps change; `width` is the values of an image's row."""
    asked, sound = (summary.series(summary.scans[0], recipe) for recipe in RECIPES)
    return [
        *_gradients(asked, sound),
        *_tail(asked),
        *_weights(asked),
        *_cut_rows(summary, width),
        *_scans_compared(summary),
        *_knows(summary),
        *_times(asked),
    ]


def of_the_recipe(summary: Summary) -> list[Sentence]:
    """What the recipe changes."""
    asked, sound = (summary.series(summary.scans[0], recipe) for recipe in RECIPES)
    return [_recipes_compared(asked, sound, summary.near(ASKED_T)), _gates(summary), _losses(asked, sound)]


def followed(summary: Summary) -> tuple[int, ...]:
    """The T of which the page shows what the LSTM knows after each step; of one step there is nothing to show."""
    return tuple(sorted({*map(summary.near, _FOLLOWED_T), summary.timesteps[-1]} - {1}))


def in_first_epoch(settings: tuple[Setting, ...]) -> bool:
    """Whether a time is that of a first epoch, in which the network is compiled: of one epoch there is no other."""
    return any(result.point.epochs == 1 for setting in settings for result in setting.results)


def power_told(value: float | None) -> str:
    """A share as people say it: in percent, as a power of ten where it is tiny, as a multiple where it is none."""
    if value is None:
        return "an unknown share"
    if value == 0:
        return "less than a number can hold"
    if value > 1:
        return f"{value:,.2g} times as much" if value < 100 else f"{value:,.0f} times as much"
    if value >= 0.001:
        return percent(value)
    mantissa, _, power = f"{value:.0e}".partition("e")
    return f"{mantissa} × 10{str(int(power)).translate(_SUPERSCRIPTS)}"


def _recipes_compared(asked: tuple[Setting, ...], sound: tuple[Setting, ...], t: int) -> Sentence:
    one, other = at(asked, t), at(sound, t)
    beside = "" if len(asked) == 1 else " beside T"
    matters = f"matters{beside}" if apart(one, other) else f"is not seen to matter at T = {t} ({unsettled(asked)})"
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
    worse = sum(series[k].interval[1] < min(series[k - 1].interval[0], series[k + 1].interval[0]) for k in cut)
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
    matters = "matters too" if max(lows) > min(highs) else f"is not seen to matter ({unsettled(settings)})"
    told = ", ".join(f"{percent(setting.accuracy)} by scan {setting.scan}" for setting in settings)
    return [
        Sentence(
            f"The order in which the same pixels are read {matters}: the sound recipe comes to {told} at T = {t}"
            f"{_furthest_apart(summary, t)}.",
            "accuracy",
        )
    ]


def _by_scan(summary: Summary, t: int) -> tuple[Setting, ...]:
    return tuple(at(summary.series(scan, "sound"), t) for scan in summary.scans)


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
            f"More steps make a smaller network: with h = {units} units and F features a step, 4h(F + h + 1) weights "
            f"are {told}. A step that sees fewer pixels has fewer weights to see them with.",
            "parameters",
        )
    ]


def _gates(summary: Summary) -> Sentence:
    asked, sound = (summary.series(summary.scans[0], recipe) for recipe in RECIPES)
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
    more = "more" if asked[-1].saturated > asked[0].saturated else "no more"
    return f" There are {more} at the last T than at the first."


def _losses(asked: tuple[Setting, ...], sound: tuple[Setting, ...]) -> Sentence:
    """What each loss gives the output; an optimiser that divides by the gradient's scale makes its size no reason."""
    shares = [one.output_gradient / other.output_gradient for one, other in zip(asked, sound, strict=True)]
    low, high = min(shares), max(shares)
    where = f"at T = {asked[0].timesteps}" if len(asked) == 1 else "over all T"
    told = f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"
    teacher = "is a quiet teacher" if high < 1 else "is not seen to be a quieter teacher"
    optimizer = recipe_of(asked[0].results[0].point)[1].optimizer
    made_up_for = (
        f" Its size alone is made up for by the optimiser ({optimizer} divides by it); what is not made up for is that "
        "it all but vanishes for an answer that is sure and wrong."
    )
    return Sentence(
        f"Mean squared error behind a softmax {teacher}: {where} it gives the output {told} times the gradient that "
        f"cross-entropy gives, before training.{made_up_for if high < 1 and optimizer in _DIVIDING else ''}",
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
    other = at(sound, last.timesteps)
    if other.gradient_ratio is not None and other.gradient_ratio_chrono is not None:
        biases = f"{power_told(other.gradient_ratio_chrono)}, {_compared(other)}"
        found.append(
            Sentence(
                f"The sound recipe gives {power_told(other.gradient_ratio)} at T = {last.timesteps}; with biases drawn "
                f"for long memory (chrono initialisation) it would be {biases}.",
                "gradient",
            )
        )
    return found


def _compared(setting: Setting) -> str:
    """Whether chrono biases let more of the gradient through."""
    usual, chrono = setting.gradient_ratio or 0.0, setting.gradient_ratio_chrono or 0.0
    if chrono > _ALIKE * usual:
        return "which is more"
    return "which is less" if usual > _ALIKE * chrono else "which is no more"


def _tail(series: tuple[Setting, ...]) -> list[Sentence]:
    last = series[-1]
    blank, steps = last.results[0].blank_tail, blank_steps(last)
    if not steps or last.timesteps == 1:
        return []
    return [
        Sentence(
            f"The median image ends in {counted(blank, 'blank pixel')}, so at T = {last.timesteps} the last "
            f"{number(steps)} step{' reads' if steps == 1 else 's read'} nothing, and what was seen has to be kept "
            "through them.",
            "after",
        )
    ]


def _knows(summary: Summary) -> list[Sentence]:
    t = summary.near(TOLD_T)
    series = [summary.series(summary.scans[0], recipe) for recipe in RECIPES] if t in followed(summary) else []
    return [Sentence(_how_early(each[0].recipe, at(each, t)), "after") for each in series]


def _how_early(recipe: RecipeName, setting: Setting) -> str:
    """After how many steps the LSTM knows; one that knows no more at the end than at first, or less, is not early."""
    after, t = setting.accuracy_after, setting.timesteps
    lstm, first, best, last = f"With T = {t} the {recipe} recipe's LSTM", after[0], max(after), after[-1]
    (surely_best, _), (_, surely_last) = setting.over_images(best), setting.over_images(last)
    if surely_best <= setting.floor:
        return (
            f"{lstm} learned nothing that shows: {percent(best)} right at the best, where always answering the most "
            f"frequent class gives {percent(setting.floor)}."
        )
    if last < 0.9 * best and surely_last < surely_best:
        return (
            f"{lstm} is right most often after {after.index(best) + 1} of {t} steps, {percent(best)}, and forgets: at "
            f"the end it is {percent(last)}."
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


def _ends_and_middle(series: tuple[Setting, ...]) -> tuple[Setting, ...]:
    middle = min(series, key=lambda setting: abs(math.log(setting.timesteps / ASKED_T)))
    return tuple(dict.fromkeys((series[0], middle, series[-1])))
