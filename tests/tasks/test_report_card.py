"""What the report judges: caveats, the model card, the verdict, and the command that repeats the run."""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from page_support import Page
from report_contents import contents_of, history_of, ledger_of, metrics_of, verdict_of

from schemas.configuration import LstmLayer, Network, Reshape, RunConfiguration, Training
from schemas.presets import configured
from schemas.receipt import Pair, Repeated
from tasks.measures import measure
from tasks.publish.caveats import caveats, weakest
from tasks.publish.report import render, rerun_command
from tasks.publish.story import neighbours_alike
from tasks.wording import percent

if TYPE_CHECKING:
    from tasks.publish.contents import ReportContents

pytestmark = pytest.mark.usefixtures("measures_drawn_once")


@pytest.fixture(scope="module")
def contents() -> ReportContents:
    return contents_of()


@pytest.fixture(scope="module")
def page(measures_drawn_once: None, contents: ReportContents) -> Page:
    return Page(render(contents))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"learned_before": 12},
            "12 of 10,000 test images were training images of the run that it began with, or of one before that, so",
        ),
        (
            {"before_on_record": False},
            "What the run that it began with had learned from is not wholly on record, so it may have seen some of the",
        ),
    ],
)
def test_what_a_warm_start_had_learned_before_is_a_caveat(
    contents: ReportContents, changes: dict[str, Any], told: str
) -> None:
    warm = dataclasses.replace(contents, **changes)
    assert told in " ".join(caveats(warm))
    shown = "12 test images are among those that the run that it began with, or one before that, learned from."
    assert (shown in Page(render(warm)).words) == bool(warm.learned_before)
    assert ("learned from is not wholly on record" in Page(render(warm)).words) != bool(warm.learned_before)
    assert "began with" not in " ".join(caveats(contents))


def test_a_warm_run_is_made_again_from_where_it_began(contents: ReportContents) -> None:
    warm = dataclasses.replace(contents, began_with="run-before")
    command = rerun_command(contents.configuration, "run-before")
    assert command == f"{rerun_command(contents.configuration)} --start-from run-before"
    words = Page(render(warm)).words
    assert words.count(command) == 2, "in the model card, and for another machine"
    assert "once the folder of run run-before is among its runs" in words
    assert "training began with the weights of run run-before and what that had learned from" in words
    assert "the same weights come out of the same beginning, the weights of run run-before" in words


def test_repeated_test_images_make_intervals_too_narrow(contents: ReportContents) -> None:
    pair = Pair(first=3, second=5, first_label=1, second_label=1)
    again = Repeated(where="within test", rows=999, of=1_000, disagreeing=0, pairs=(pair,))
    receipt = contents.receipt.model_copy(update={"repeated": (again,)})
    told = " ".join(caveats(dataclasses.replace(contents, receipt=receipt)))
    assert "999 of 1,000 test images repeat an earlier one, so that the intervals are narrower" in told
    assert "repeat an earlier one" not in " ".join(caveats(contents))


@pytest.mark.parametrize(("rights", "clearly"), [((499, 498, 499), False), ((499, 400, 450), True), ((9, 9, 9), None)])
def test_a_class_is_called_worse_where_chance_does_not_explain_it(
    contents: ReportContents, rights: tuple[int, ...], clearly: bool | None
) -> None:
    labels = np.repeat([0, 1, 2], 500)
    answers = np.concatenate([np.where(np.arange(500) < right, k, (k + 1) % 3) for k, right in enumerate(rights)])
    metrics = measure(labels, np.eye(3)[answers], list("abc")).model_copy(update={"floors": contents.metrics.floors})
    found = weakest(metrics)
    assert (found and (found.of.name, found.clearly)) == (None if clearly is None else ("b", clearly))
    of_three = dataclasses.replace(contents, metrics=metrics)
    assert ("of the class b it finds 80.0" in " ".join(caveats(of_three))) == bool(clearly)


def test_of_many_classes_of_one_difficulty_none_is_called_worse() -> None:
    """By single intervals the extremes of 62 classes of 400 images lie apart in nearly nine of ten cases."""
    generator, clearly = np.random.default_rng(3), 0
    for _ in range(40):
        rights = generator.binomial(400, 0.87, 62)
        labels = np.repeat(np.arange(62), 400)
        answers = np.concatenate([np.where(np.arange(400) < n, k, (k + 1) % 62) for k, n in enumerate(rights)])
        found = weakest(measure(labels, np.eye(62, dtype=np.float32)[answers], [str(k) for k in range(62)]))
        clearly += found is not None and found.clearly
    assert clearly <= 4


def test_classes_that_are_found_as_rarely_are_counted() -> None:
    labels = np.repeat([0, 1, 2], 4)
    answers = np.where(np.arange(12) % 4 == 0, 0, labels)
    found = weakest(measure(labels, np.eye(3)[answers], list("abc")))
    assert found is not None
    assert (found.of.name, found.others) == ("b", 1)


def test_what_a_class_without_training_images_can_be_known_from(contents: ReportContents) -> None:
    assert contents.drift is not None
    profile = contents.drift.profile.model_copy(update={"labels": (0, *(6_000,) * 9)})
    drift = contents.drift.model_copy(update={"profile": profile})
    cold = dataclasses.replace(contents, drift=drift)
    assert "No training image has these classes, so that it cannot know them: 0." in caveats(cold)
    warm = dataclasses.replace(cold, began_with="run-before")
    assert "No training image of this run has these classes, only of those it goes back to: 0." in caveats(warm)


def test_simple_models_are_compared_by_images_and_not_by_sequences(contents: ReportContents) -> None:
    frames = Reshape(layout="frames", timesteps=28)
    configuration = RunConfiguration(reshape=frames)
    many = dataclasses.replace(contents, configuration=configuration, ledger=ledger_of((697_932, 10_000), 28))
    assert any("The simple models learned from 60,000 images only" in caveat for caveat in caveats(many))
    assert not any("The simple models learned" in caveat for caveat in caveats(contents))


def test_a_leak_is_told_and_is_a_caveat(contents: ReportContents) -> None:
    pair = Pair(first=3, second=5, first_label=1, second_label=1)
    leak = Repeated(where="test in train", rows=12, of=10_000, disagreeing=0, pairs=(pair,))
    receipt = contents.receipt.model_copy(update={"repeated": (leak,)})
    leaking = dataclasses.replace(contents, receipt=receipt)
    words = Page(render(leaking)).words
    assert "12 test images are training images as well" in words
    assert "5 as 3" in words
    assert "12 of 10,000 test images are training images as well, so the accuracy" in " ".join(caveats(leaking))


def test_the_model_card_says_what_is_known(contents: ReportContents, page: Page) -> None:
    card = page.words[page.words.index("Model card What somebody") :]
    for words in (
        "Intended use",
        "Caveats",
        rerun_command(contents.configuration),
        percent(contents.metrics.accuracy, 2),
    ):
        assert " ".join(words.split()) in card
    assert card.count(contents.receipt.files[0].payload_sha256) >= 4
    assert all(" ".join(caveat.split()) in card for caveat in caveats(contents))


def test_caveats_follow_what_was_found(contents: ReportContents) -> None:
    told = " ".join(caveats(contents))
    assert "does as well" not in told
    assert "vouches" not in told
    assert "No validation split" not in told
    metrics = contents.metrics
    as_good = metrics.floors[1].model_copy(update={"accuracy": metrics.accuracy})
    changed = metrics.model_copy(update={"floors": (as_good,), "suspects": None})
    poor = dataclasses.replace(
        contents, metrics=changed, mode="tracked", history=history_of(2, validation=False), suspects=None
    )
    told = " ".join(caveats(poor))
    assert "A simple model does as well: logistic regression" in told
    assert "Nobody vouches for the files" in told
    assert "No validation split was held out" in told
    assert "may be wrong" not in told
    assert "Nobody vouches for the files" in Page(render(poor)).words


def test_images_that_come_class_by_class_are_told_where_a_sequence_holds_several(contents: ReportContents) -> None:
    ledger = ledger_of(each=2)  # 5,000 pairs of neighbours
    sorted_ones, drawn_ones = (
        dataclasses.replace(contents, ledger=ledger, neighbours_alike=share) for share in (0.95, 0.11)
    )
    assert "95.0\u202f% have the class of the one before them, where chance would give 10.0\u202f%" in " ".join(
        caveats(sorted_ones)
    )
    assert "before them" not in " ".join(caveats(drawn_ones)) + " ".join(caveats(contents))
    three = dataclasses.replace(sorted_ones, metrics=metrics_of(list("abcd"), samples=6), ledger=ledger_of((60, 6), 2))
    assert "before them" not in " ".join(caveats(dataclasses.replace(three, neighbours_alike=0.667))), "2 of 3 pairs"
    targets = np.array([[1, 1, 2], [2, 2, 2]], np.int32)
    assert (neighbours_alike(targets), neighbours_alike(targets[:, 0])) == (0.75, None)


def test_a_simple_model_within_the_interval_is_not_called_as_good(contents: ReportContents) -> None:
    metrics = contents.metrics
    near = metrics.floors[1].model_copy(update={"accuracy": metrics.interval[0]})
    told = " ".join(caveats(dataclasses.replace(contents, metrics=metrics.model_copy(update={"floors": (near,)}))))
    assert "It is not shown to be better than a simple model: logistic regression" in told
    assert "does as well" not in told


def test_no_class_is_called_the_worst_where_all_are_found() -> None:
    perfect = measure(np.arange(3), np.eye(3), list("abc"))
    contents = contents_of(list("abc"), metrics=perfect, samples=(100, 3))
    assert "equally good" not in " ".join(caveats(contents))
    assert "Hardest to find" not in Page(render(contents)).words


def test_a_class_that_training_has_not_is_told(contents: ReportContents) -> None:
    assert contents.drift is not None
    assert "cannot know" not in " ".join(caveats(contents))
    profile = contents.drift.profile.model_copy(update={"labels": (0, *contents.drift.profile.labels[1:])})
    drift = contents.drift.model_copy(update={"profile": profile})
    told = " ".join(caveats(dataclasses.replace(contents, drift=drift)))
    assert "No training image has these classes, so that it cannot know them: 0." in told


@pytest.mark.parametrize(
    "configuration",
    [
        RunConfiguration(
            preset="question-16x49",
            dataset="fashion-mnist",
            reshape=Reshape(timesteps=8, scan="columns"),
            network=Network(layers=(LstmLayer(units=7), LstmLayer(units=5, bidirectional=True)), pooling="mean"),
            training=Training.model_validate({"learning_rate": 1e-5, "early_stopping": {"patience": 2}}),
        ),
        RunConfiguration(preset="best-augmented"),  # the preset's augmentation and number of epochs taken away
        RunConfiguration(),
    ],
)
def test_the_rerun_command_gives_the_same_configuration(configuration: RunConfiguration) -> None:
    words = shlex.split(rerun_command(configuration))
    assert words[:2] == ["stepwise", "run"]
    options = list(zip(words[2::2], words[3::2], strict=True))
    settings = [value for option, value in options if option == "--set"]
    named = dict(options)
    assert configured(named["--preset"], settings=settings, dataset=named["--dataset"]) == configuration


def test_whoever_repeats_a_run_on_a_catalog_of_their_own_has_to_name_it() -> None:
    own = RunConfiguration(dataset="my-digits")
    assert rerun_command(own).startswith("stepwise run --catalog CATALOG.toml --dataset my-digits ")


def test_the_card_says_whose_data_they_are() -> None:
    words = Page(render(contents_of(licence="CC BY <4.0>", homepage="https://example.org/digits"))).words
    assert "of MNIST handwritten digits (licence: CC BY <4.0> ), described at https://example.org/digits" in words


def test_the_verdict_and_the_drift_are_told_with_their_numbers() -> None:
    page = Page(render(contents_of()))
    text = " ".join(page.text.split())
    assert "The champion stays Before it was published, the model was compared with the champion of its day" in text
    assert "10,000 test images: +0.03 points, 95 % interval -0.12 to +0.18" in text
    assert "This model right 9,850 31 This model wrong 28 91" in text
    assert "p = 0.4; at most 0.05 is demanded" in text
    assert "The training data have drifted from the champion’s" in text
    assert "shares of the labels 0.163 0.001 warn class 3: 10.0% → 19.5%" in text


@pytest.mark.parametrize(
    ("changes", "heading"),
    [
        ({"decision": "first champion", "champion": None, "comparison": None}, "The first champion There was no"),
        ({"decision": "keep", "champion": None, "comparison": None}, "No champion There was no champion"),
        ({"decision": "promote"}, "Better than the champion Before"),
        ({"decision": "undecided", "comparison": None}, "A person decides The champion of its day was"),
        ({"decision": "keep", "comparison": None}, "the two were not compared, for the first reason below"),
        ({"decision": "promote", "rescored": True}, "which answered these test images first"),
    ],
)
def test_every_decision_has_its_heading(changes: dict[str, Any], heading: str) -> None:
    page = Page(render(contents_of(verdict=verdict_of(**changes))))
    assert heading in " ".join(page.text.split())


def test_runs_from_before_there_was_promotion_have_no_such_section() -> None:
    page = Page(render(contents_of(verdict=None, drift=None)))
    assert "champion" not in {attributes.get("id") for _, attributes in page.tags}
