"""The report as HTML: what it says, what it escapes, and that it needs nothing but itself."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from page_support import Page
from report_contents import contents_of, drift_of, history_of, ledger_of, metrics_of, verdict_of

from schemas.configuration import LstmLayer, Network, Reshape, RunConfiguration, Training
from schemas.handles import Labels
from schemas.ledger import EQUATIONS, CountsBrokenError, Ledger
from tasks.evaluate.suspects import suspects_among
from tasks.measures import measure
from tasks.predictions import PredictionWriter
from tasks.publish.cards import _most_frequent_mistake
from tasks.publish.report import confusions, render, stops
from tasks.publish.story import contradicted
from tasks.wording import percent, seconds

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.publish.contents import ReportContents


KANA = ("お", "き", "す", "つ", "な", "は", "ま", "や", "れ", "を")
HOSTILE = "<script>alert('x')</script>\" onload='y' &amp; \u202eabc $\\frac{$ \x00"
HOSTILE_SHOWN = "<script>alert('x')</script>\" onload='y' &amp; [U+202E]abc $\\frac{$ [U+0000]"


@pytest.fixture(scope="module")
def contents() -> ReportContents:
    return contents_of()


@pytest.fixture(scope="module")
def html(contents: ReportContents) -> str:
    return render(contents)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture(scope="module")
def other_page() -> Page:
    """Of a run that differs in much: frames, some dropped, tracked files, kana, nothing against overfitting."""
    reshape = Reshape(layout="frames", timesteps=16)
    plain = {"network": Network(dropout_head=0.0), "training": Training(label_smoothing=0.0)}
    contents = contents_of(
        KANA,
        reshape=reshape,
        samples=(60_010, 10_003),
        mode="tracked",
        configuration=RunConfiguration(reshape=reshape, **plain),
    )
    files = tuple(file.model_copy(update={"verified": "recorded"}) for file in contents.receipt.files)
    receipt = contents.receipt.model_copy(update={"mode": "tracked", "files": files})
    return Page(render(dataclasses.replace(contents, receipt=receipt)))


def test_nothing_is_loaded_from_anywhere(html: str, page: Page) -> None:
    links = page.values("src", "href", "xlink:href", "data", "poster", "srcset", "action")
    assert links
    assert [link[:40] for link in links if not link.startswith(("#", "data:image/png;base64,", "data:,"))] == []
    assert "url(http" not in html
    assert "@import" not in html
    assert {tag for tag, _ in page.tags} & {"script", "iframe", "object", "embed", "base", "form"} == set()
    assert "default-src 'none'" in html


def test_anchors_lead_somewhere_and_ids_are_given_once(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    anchors = {link[1:] for link in page.values("href", "xlink:href") if link.startswith("#")}
    assert anchors <= set(ids)


def test_structure_is_one_that_can_be_read_aloud(page: Page) -> None:
    assert ("html", {"lang": "en"}) in page.tags
    levels = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3", "h4"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in itertools.pairwise(levels))
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in page.tags if tag == "svg")
    regions = [attributes for _, attributes in page.tags if attributes.get("role") == "region"]
    assert all(attributes.get("aria-label") and attributes.get("tabindex") == "0" for attributes in regions)


def test_every_number_of_the_metrics_is_there(contents: ReportContents, page: Page) -> None:
    metrics = contents.metrics
    wanted = [percent(share, 2) for share in (metrics.accuracy, *metrics.interval)]
    wanted += [f"{metrics.correct:,}"]
    wanted += [
        f"{metrics.loss:.4f}",
        f"{100 * metrics.calibration.ece:.2f} points",
        f"{100 * metrics.calibration.mce:.1f} points",
    ]
    for c in metrics.classes:
        assert c.precision is not None
        assert c.recall is not None
        assert c.f1 is not None
        wanted += [c.name, f"{c.support:,}", percent(c.precision), percent(c.recall), percent(c.f1)]
    wanted += [f"{count:,}" for row in metrics.confusion for count in row if count]
    wanted += [f"{b.count:,}" for b in metrics.calibration.reliability]
    wanted += [f"no. {m.index:,}" for m in metrics.worst]
    text = page.text.replace("\n", " ")
    assert [number for number in wanted if number not in text] == []


def test_slices_floors_and_suspects_are_there(contents: ReportContents, page: Page) -> None:
    metrics = contents.metrics
    assert metrics.suspects is not None
    assert metrics.suspects.worst
    pieces = [piece for slicing in metrics.slices for piece in slicing.slices]
    assert len(pieces) == 10
    wanted = [f"{piece.samples:,} {percent(piece.accuracy)}" for piece in pieces]
    wanted += [f"{100 * piece.interval[0]:.1f} to {100 * piece.interval[1]:.1f}" for piece in pieces]
    wanted += [f"{floor.name} {percent(floor.accuracy, 2)}" for floor in metrics.floors]
    wanted += [f"no. {suspect.index:,}" for suspect in metrics.suspects.worst]
    wanted += ["It is a suspicion", f"{metrics.suspects.count:,} of", "first half of the file"]
    text = " ".join(page.text.replace("\u202f", "~").split()).replace("~", "\u202f")
    assert [words for words in wanted if words not in text] == []
    alts = page.values("alt")
    assert sum(alt.startswith("Test image") and "perhaps" in alt for alt in alts) == len(metrics.suspects.worst)


@pytest.mark.parametrize("shown", [0, 1, 2])
def test_labels_known_to_be_wrong_are_told_and_marked(contents: ReportContents, shown: int) -> None:
    assert contents.metrics.suspects
    suspects = [suspect.index for suspect in contents.metrics.suspects.worst]
    others = [row for row in range(50) if row not in suspects][: 5 - shown]
    reviewed = dict.fromkeys(suspects[:shown], True) | dict.fromkeys(others, False)
    words = Page(render(dataclasses.replace(contents, reviewed=reviewed))).words
    told = {
        0: "0 are among the suspects shown.",
        1: "1 is among",
        2: "2 are among the suspects shown, marked as known.",
    }
    assert f"before and found 5 wrong. The model contradicts {shown} of them; {told[shown]}" in words
    assert words.count("known to be wrong") == shown


def test_nothing_is_said_of_labels_that_nobody_reviewed(page: Page) -> None:
    assert "People have reviewed" not in page.words
    assert "known to be wrong" not in page.words


def test_a_label_is_contradicted_where_the_answer_is_another(tmp_path: Path) -> None:
    answers = np.eye(10, dtype=np.float32)[[3, 1, 4, 1, 5]]
    with PredictionWriter(tmp_path / "predictions.parquet", Labels(first=1, classes=10, names=())) as writer:
        writer.write(np.array([3, 0, 4, 9, 5], np.int32), answers)

    assert contradicted(tmp_path / "predictions.parquet", (3, 0, 1)) == {3: True, 0: False, 1: True}
    assert contradicted(tmp_path / "predictions.parquet", (1, 5)) == {1: True}, "the last were dropped"
    assert contradicted(tmp_path / "there is no such file", ()) == {}


def test_repeated_images_are_told(page: Page) -> None:
    assert "No test image is a training image" in page.words
    assert "within train 1 of 60,000 1 50,123 as 4,711, labelled 1 and 0" in page.words


def test_what_earlier_versions_did_not_measure_is_left_out(contents: ReportContents) -> None:
    metrics = contents.metrics.model_copy(update={"slices": (), "suspects": None, "floors": ()})
    receipt = contents.receipt.model_copy(update={"repeated": None, "schema_version": 1})
    page = Page(render(dataclasses.replace(contents, metrics=metrics, receipt=receipt, seen=None, suspects=None)))
    assert {"floors", "slices", "labels"}.isdisjoint(page.values("id"))
    assert "Repeated images" not in page.values("aria-label")


def test_ledger_and_equations_are_there(contents: ReportContents, page: Page) -> None:
    for equation in EQUATIONS:
        assert str(equation) in page.words
    for entry in contents.ledger.entries:
        assert f"{entry.count:,}" in page.words
        assert entry.station in page.words
    assert page.words.count("60,000 = 60,000") + page.words.count("57,000 = 57,000") >= 8
    assert "No sample was lost" in page.words


def test_provenance_is_complete(contents: ReportContents, page: Page) -> None:
    for text in (contents.run, contents.receipt.signature, *contents.environment.values(), *contents.files):
        assert text in page.words
    assert all(digest in page.words for digest in contents.files.values())
    assert "training.learning_rate" in page.words
    assert f"stepwise predict IMAGES -o predictions.parquet --run {contents.run}" in page.words
    assert f"stepwise rerun {contents.run}" in page.words
    assert "The same on another machine, with stepwise 9.8.7" in page.words


def test_a_ledger_that_does_not_close_is_not_reported(contents: ReportContents) -> None:
    missing = Ledger(entries=contents.ledger.entries[:-1])
    with pytest.raises(CountsBrokenError, match="the ledger is not closed: predictions written = evaluated"):
        render(dataclasses.replace(contents, ledger=missing))
    wrong = Ledger(entries=(*missing.entries, contents.ledger.entries[-1].model_copy(update={"count": 9_999})))
    with pytest.raises(CountsBrokenError, match="9,999"):
        render(dataclasses.replace(contents, ledger=wrong))


def test_dropped_images_are_said_and_not_hidden(other_page: Page) -> None:
    words = other_page.words
    assert "No sample was lost" not in words
    assert "Every sample is accounted for" in words
    assert "13 images did not fill a last sequence" in words
    assert "10 dropped, as configured" in words


def test_hostile_names_are_shown_and_do_nothing() -> None:
    names = (HOSTILE, *"123456789")
    contents = contents_of(
        names,
        run=HOSTILE,
        title=HOSTILE,
        verdict=verdict_of(HOSTILE),
        drift=drift_of(HOSTILE),
        environment={HOSTILE: HOSTILE},
        files={HOSTILE: HOSTILE},
        timings={HOSTILE: 1.0},
        configuration=RunConfiguration(preset=HOSTILE, dataset=HOSTILE),
    )
    files = tuple(file.model_copy(update={"name": HOSTILE}) for file in contents.receipt.files)
    html = render(dataclasses.replace(contents, receipt=contents.receipt.model_copy(update={"files": files})))
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any("onload" in attributes for _, attributes in page.tags)
    assert "\u202e" not in html
    assert "\x00" not in html
    assert page.text.count(HOSTILE_SHOWN) >= 10
    html.encode("utf-8")


def test_scripts_of_other_languages_are_drawn(other_page: Page) -> None:
    assert all(other_page.words.count(name) >= 3 for name in KANA)


def test_equal_contents_make_equal_bytes(contents: ReportContents, html: str) -> None:
    assert render(contents) == html


def test_size_is_modest(html: str) -> None:
    assert len(html.encode()) < 300_000


@pytest.mark.slow
def test_size_is_modest_with_many_classes() -> None:
    many = contents_of(tuple(f"class {k}" for k in range(62)))
    assert len(render(many).encode()) < 600_000


def test_few_things_are_said_too() -> None:
    """One epoch, no validation, no mistakes, classes without samples or answers."""
    perfect = metrics_of(["a", "b"], samples=1, worst=0)
    words = Page(
        render(
            contents_of(
                metrics=perfect,
                pictures=np.zeros((0, 28, 28), np.uint8),
                history=history_of(1, validation=False),
                timings={},
                reused=frozenset(),
                environment={},
                files={},
            )
        )
    ).words
    assert "100.0 % of 1 test images" in words
    assert "n/a" in words
    assert "No validation split was held out" in words
    assert "There are none: every answer was right." in words


def test_tracked_data_are_not_called_verified(other_page: Page) -> None:
    words = other_page.words
    assert "The files are recorded, not vouched for" in words
    assert words.count("recorded only") == 4
    assert "expected ones" not in words
    assert "Nobody vouches for the files" in other_page.words


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, True),
        ({"reshape": Reshape(timesteps=1)}, False),
        ({"reshape": Reshape(layout="frames", timesteps=16)}, False),
        ({"network": Network(layers=(LstmLayer(bidirectional=True),))}, False),
        ({"network": Network(pooling="mean")}, False),
    ],
)
def test_a_blank_tail_has_to_be_remembered_over_only_where_the_last_step_answers(
    changes: dict[str, Any], *, said: bool
) -> None:
    contents = contents_of(reshape=changes.get("reshape"), configuration=RunConfiguration(**changes))
    words = Page(render(contents)).words
    assert "The blank tail is the pixels of 0 that an image ends with, in the order of the scan" in words
    assert ("over which it has to remember" in words) == said


def test_a_suspected_class_need_not_be_the_answer() -> None:
    """Class 0 is answered and does not reach its threshold; class 1 does: the page must not call it the answer."""
    p = np.array([[0.45, 0.40, 0.15]])
    found = suspects_among([(np.array([0]), np.array([2]), p)], (0.8, 0.35, 0.2))
    assert [suspect.suggested for suspect in found.worst] == [1]
    metrics = metrics_of(list("abc"), samples=500).model_copy(update={"suspects": found})
    words = Page(render(contents_of(list("abc"), metrics=metrics, samples=(1_000, 500)))).words
    wrong = metrics.samples - metrics.correct
    assert f"In 1 of {wrong} wrong answers, of the classes that have at least the probability they get on" in words
    assert "what the model is sure of" not in words


def test_words_about_training_follow_the_configuration(page: Page, other_page: Page) -> None:
    assert "Training has dropout and smoothed labels against it" in page.words
    assert "against it" not in other_page.words


def test_frames_show_their_images(other_page: Page) -> None:
    assert "3,750 sequences still carry one label for every image" in other_page.words
    assert [alt for alt in other_page.values("alt") if alt.startswith("Step")] == [f"Step {k}" for k in range(1, 17)]


def test_stops_follow_the_samples() -> None:
    way = stops(ledger_of((60_000, 10_000), 16, validation=187), "train")
    assert [stop.count for stop in way] == ["60,000"] * 4 + ["3,563"] * 2
    assert way[3].note == "in 3,750 sequences, with 60,000 labels"
    assert way[4].note == "to learn from, 187 more held out"


def test_confusions_are_ranked_and_exclude_the_diagonal() -> None:
    metrics = metrics_of(list("abcd"), samples=500)
    counts = np.array(metrics.confusion)
    off = sorted((int(counts[i, j]) for i in range(4) for j in range(4) if i != j and counts[i, j]), reverse=True)
    assert [pair.count for pair in confusions(metrics, 3)] == off[:3]


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.98712, "98.7"),
        (1.0, "100.0"),
        (0.9996, "99.96"),
        (0.0, "0.0"),
        (0.0001, "0.01"),
        (0.99999999, "99.999999"),
        (1e-12, "under 0.000001"),
    ],
)
def test_percent_is_not_rounded_to_certainty(share: float, shown: str) -> None:
    assert percent(share) == f"{shown}\u202f%"


@pytest.mark.parametrize(("value", "shown"), [(0.084, "0.08 s"), (45.23, "45.2 s"), (125.4, "2 min 05 s")])
def test_durations_read_well(value: float, shown: str) -> None:
    assert seconds(value).replace("\u202f", " ") == shown


@pytest.mark.slow
def test_the_module_is_cheap_to_import() -> None:
    program = "import sys, tasks.publish.report, json; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert "tasks.publish.figures" in modules
    assert {"matplotlib", "tensorflow", "PIL"}.isdisjoint(modules)


@pytest.mark.parametrize(
    ("mistakes", "said"),
    [
        ([], "No mistake on the test images"),
        ([1], "Most frequent mistake: 0 answered as 1, once"),
        ([1, 2, 2], "Most frequent mistake: 0 answered as 2, 2 times"),
    ],
)
def test_the_most_frequent_mistake_is_said_in_words(mistakes: list[int], said: str) -> None:
    answered = [0, 1, 2, *mistakes]
    right = [0, 1, 2, *[0] * len(mistakes)]
    metrics = measure(np.array(right), np.eye(3, dtype=np.float32)[answered], ("0", "1", "2"))
    assert _most_frequent_mistake(metrics) == said
