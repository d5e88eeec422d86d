"""The study's answers in words. Every sentence names the figure that shows what it says; every number is measured.

Where a study found something else than usual, the words say what it found. Not here: figures, page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.ledger import CountsBrokenError, Ledger
from tasks.study.summary import blank_steps
from tasks.wording import number, percent, seconds

if TYPE_CHECKING:
    from schemas.configuration import Scan
    from schemas.study import RecipeName
    from tasks.study.summary import Setting, Summary

ASKED_T: Final = 16  # the question's
TOLD_T: Final = 28  # where one T stands for all: long enough, and still learned well
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


@dataclass(frozen=True)
class Grouping:
    """What grouping T images into a sequence does to the counts while the labels stay one by one."""

    timesteps: int
    images: int
    sequences: int
    keras: str
    ledger: str


def grouping_of(images: int, timesteps: int) -> Grouping:
    """The (N // T, T, pixels) proposal, with the ledger's own words about its counts."""
    sequences = images // timesteps
    counted = Ledger().entered("train", "reshape", {"sequences": sequences, "targets": images})
    told = ""
    try:
        counted.verify()
    except CountsBrokenError as broken:
        told = str(broken)
    keras = f"Found {sequences} input samples and {images} target samples"
    return Grouping(timesteps, images, sequences, keras, told)


def why_so_many_features(summary: Summary, images: int) -> list[Sentence]:
    """Why 49? The answer for the T that is nearest to the question's."""
    t = summary.near(ASKED_T)
    f = next(s.features for s in summary.settings if s.timesteps == t)
    pixels = t * f
    grouping = grouping_of(images, t)
    return [
        Sentence(
            f"An image has {number(pixels)} pixels, and {t} steps have to read each of them once: one step sees "
            f"{number(pixels)} / {t} = {number(f)}. So F = {number(pixels)} / T, always.",
            "steps",
        ),
        Sentence(
            f"Steps are cut inside an image, so the number of samples does not change: {number(images)} images are "
            f"{number(images)} sequences, whatever T is.",
            "counts",
        ),
        Sentence(
            f"The shape (N // {t}, {t}, {pixels}) does something else: it makes one sequence of {t} different images. "
            f"Then there are {number(grouping.sequences)} sequences and still {number(images)} labels, and training "
            "cannot begin.",
            "counts",
        ),
    ]


def why_accuracy_changes(summary: Summary, width: int) -> dict[str, list[Sentence]]:
    """Why does accuracy fall? The answer, then what this study measured of each reason, by what the reason hangs on.

    Of the first scan, where scans do not matter; `width` is the pixels of an image's row.
    """
    scan = summary.scans[0]
    asked, sound = summary.series(scan, "question"), summary.series(scan, "sound")
    return {
        "The answer": [
            _in_short(asked, sound),
            *_between_the_shapes_asked_for(asked, sound, summary.near(ASKED_T)),
            _course("question", scan, asked),
            _course("sound", scan, sound),
        ],
        "What more steps change": [
            *_gradients(asked, sound),
            *_tail(asked),
            _weights(asked),
            *_cut_rows(summary, width),
            *_scans_compared(summary),
            *_knows(summary, scan),
            _times(asked),
        ],
        "What the recipe changes": [
            _recipes_compared(asked, sound, summary.near(ASKED_T)),
            _gates(asked, sound),
            _losses(asked, sound),
        ],
    }


def why_it_changes_asked(summary: Summary) -> str:
    """The second question, as it stands after what the study found under the question's recipe."""
    series = summary.series(summary.scans[0], "question")
    falls = _moves(series[0], series[-1]).startswith("falls")
    return f"Why does accuracy {'fall' if falls else 'change'} with more steps?"


def _in_short(asked: tuple[Setting, ...], sound: tuple[Setting, ...]) -> Sentence:
    lost = {"asked": asked[0].accuracy - asked[-1].accuracy, "sound": sound[0].accuracy - sound[-1].accuracy}
    falls = [_moves(series[0], series[-1]).startswith("falls") for series in (asked, sound)]
    points = {name: f"{100 * share:.1f} points" for name, share in lost.items()}
    if all(falls):
        decides = ", and the recipe decides how much" if lost["sound"] < lost["asked"] else ""
        text = (
            f"It falls under both recipes, by {points['asked']} under the question's and by {points['sound']} under "
            f"the sound one: more steps are harder to learn in themselves{decides}."
        )
    elif falls[0]:
        text = (
            f"It falls under the question's recipe alone, by {points['asked']}: more steps can be learned, but not so."
        )
    elif falls[1]:
        text = f"It falls under the sound recipe alone, by {points['sound']}."
    elif len(asked) == 1:
        text = "One T was measured: that says nothing of more steps."
    else:
        text = "Under neither recipe is it seen to fall by more than chance."
    return Sentence(text, "accuracy")


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
    text = (
        f"Under the {recipe} recipe (scan {scan}), accuracy {_moves(first, last)}: {percent(first.accuracy)} at "
        f"T = {first.timesteps}, {percent(last.accuracy)} at T = {last.timesteps}; "
        f"best is T = {best.timesteps} with {percent(best.accuracy)}."
    )
    return Sentence(text, "accuracy")


def _moves(first: Setting, last: Setting) -> str:
    if first.timesteps == last.timesteps:
        return "was measured at one T"
    (low, high), (low_last, high_last) = first.interval, last.interval
    if high_last < low:
        return "falls with T"
    return "rises with T" if low_last > high else "is not seen to differ between the ends by more than chance"


def _recipes_compared(asked: tuple[Setting, ...], sound: tuple[Setting, ...], t: int) -> Sentence:
    one, other = _at(asked, t), _at(sound, t)
    apart = one.interval[1] < other.interval[0] or other.interval[1] < one.interval[0]
    matters = "matters beside T" if apart else "is not seen to matter here"
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
    t, every_t = summary.near(TOLD_T), summary.timesteps
    at = {each: [_at(summary.series(scan, "sound"), each) for scan in summary.scans] for each in every_t}
    lows, highs = zip(*(setting.interval for setting in at[t]), strict=True)
    matters = "matters too" if max(lows) > min(highs) else "is not seen to matter"
    accuracies = {each: [setting.accuracy for setting in settings] for each, settings in at.items()}
    most = max(every_t, key=lambda each: max(accuracies[each]) - min(accuracies[each]))
    told = ", ".join(f"{percent(setting.accuracy)} by scan {setting.scan}" for setting in at[t])
    there = ", ".join(percent(accuracy) for accuracy in accuracies[most])
    return [
        Sentence(
            f"The order in which the same pixels are read {matters}: the sound recipe comes to {told} at T = {t}, and "
            f"to {there} at T = {most}, where they are furthest apart.",
            "accuracy",
        )
    ]


def _weights(series: tuple[Setting, ...]) -> Sentence:
    told = ", ".join(f"{number(s.results[0].lstm_parameters)} at T = {s.timesteps}" for s in _ends_and_middle(series))
    return Sentence(
        f"More steps make a smaller network: with {_units(series)} units, 4h(f + h + 1) weights are {told}. "
        "A step that sees fewer pixels has fewer weights to see them with.",
        "parameters",
    )


def _gates(asked: tuple[Setting, ...], sound: tuple[Setting, ...]) -> Sentence:
    raw = ", ".join(f"{percent(s.saturated)} at T = {s.timesteps}" for s in _ends_and_middle(asked))
    scaled = ", ".join(f"{percent(s.saturated)}" for s in _ends_and_middle(sound))
    more = asked[-1].saturated > asked[0].saturated
    apart = " There are no more at the last T than at the first: a reason why recipes differ, none why accuracy falls."
    with_steps = "" if len(asked) == 1 else " There are more at the last T than at the first." if more else apart
    return Sentence(
        f"Raw pixels push the gates towards 0 or 1 before anything is learned: saturated are {raw}; with scaled "
        f"pixels {scaled}. A saturated gate hardly learns.{with_steps}",
        "saturation",
    )


def _losses(asked: tuple[Setting, ...], sound: tuple[Setting, ...]) -> Sentence:
    shares = [one.output_gradient / other.output_gradient for one, other in zip(asked, sound, strict=True)]
    low, high = min(shares), max(shares)
    told = f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"
    teacher = "is a quiet teacher" if high < 1 else "is not seen to be a quieter teacher"
    return Sentence(
        f"Mean squared error behind a softmax {teacher}: over all T it gives the output {told} times the gradient that "
        "cross-entropy gives.",
        "loss",
    )


def _gradients(asked: tuple[Setting, ...], sound: tuple[Setting, ...]) -> list[Sentence]:
    known = [s for s in asked if s.gradient_ratio is not None]
    if not known:
        return []
    first, last = known[0], known[-1]
    found = [
        Sentence(
            f"Learning has to reach back through every step: of the gradient at the last quarter of the steps, the "
            f"first quarter receives {power_told(first.gradient_ratio)} at T = {first.timesteps} and "
            f"{power_told(last.gradient_ratio)} at T = {last.timesteps} (the question's recipe, before training).",
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
    if not steps:
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
    found = []
    t = summary.near(TOLD_T)
    for recipe in ("question", "sound"):
        after = _at(summary.series(scan, recipe), t).accuracy_after
        k = next(k for k, share in enumerate(after, 1) if share >= 0.9 * after[-1])
        found.append(
            Sentence(
                f"With T = {t} the {recipe} recipe's LSTM comes to nine tenths of its accuracy after {k} of {t} steps.",
                "after",
            )
        )
    return found


def _times(series: tuple[Setting, ...]) -> Sentence:
    first, last = series[0], series[-1]
    short, long = seconds(first.seconds_of_ten_thousand), seconds(last.seconds_of_ten_thousand)
    return Sentence(
        f"And steps cost time, for they cannot be computed side by side: 10,000 images take {short} at "
        f"T = {first.timesteps} and {long} at T = {last.timesteps}.",
        "time",
    )


def _units(series: tuple[Setting, ...]) -> int:
    """h, from 4h(f + h + 1) = the weights counted."""
    setting = series[0]
    wanted, f = setting.results[0].lstm_parameters, setting.features
    return next(h for h in range(1, wanted) if 4 * h * (f + h + 1) == wanted)


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
