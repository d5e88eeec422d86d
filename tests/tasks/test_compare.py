"""Verdicts: what a model must show to take the champion's place, and when nothing is compared."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from ring import DEMANDS, DIGITS, LOOSE, N, Ring, answers, rows_of

from schemas.champion import Demands
from schemas.errors import DataError
from schemas.handles import Labels
from tasks.compare import Contest, key_of, verdict_on
from tasks.compare.answers import Answers, metrics_of, written_answers
from tasks.compare.findings import calibrated, classes_kept, paired
from tasks.measures import measure
from tasks.model_input import sequences_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from schemas.configuration import Reshape
    from schemas.handles import Table
    from schemas.metrics import Calibration
    from tasks.store import Store


def test_the_first_sound_model_is_the_first_champion(ring: Ring) -> None:
    verdict = ring.verdict(answers(ring.labels, range(30)), None)
    assert (verdict.decision, verdict.champion, verdict.comparison) == ("first champion", None, None)


@pytest.mark.parametrize(
    ("wrong", "demands", "reason"),
    [
        (
            range(535),
            DEMANDS,
            "better than always answering the most frequent class: 10.83%, which may be as low as 8.59%",
        ),
        (range(30), Demands(minimum_accuracy=0.96), "minimum accuracy: 95.00%, at least 96.00% demanded"),
        (range(30), Demands(minimum_recall=0.94), "minimum recall of class 0: 9"),
    ],
)
def test_not_even_the_first_champion_may_be_anything(
    ring: Ring, wrong: list[int], demands: Demands, reason: str
) -> None:
    verdict = ring.verdict(answers(ring.labels, wrong), None, demands)
    assert verdict.decision == "keep"
    assert verdict.reasons[0].startswith(f"not met: {reason}")


@pytest.mark.parametrize(
    ("only_old", "only_new", "decision"),
    [(0, 5, "promote"), (0, 4, "keep"), (5, 13, "promote"), (5, 12, "keep"), (10, 10, "keep"), (14, 5, "keep")],
)
def test_a_model_is_promoted_where_chance_does_not_explain_it(
    ring: Ring, only_old: int, only_new: int, decision: str
) -> None:
    """All of 5 fair coins show heads in 3.1 % of cases, of 4 in 6.3 %; 13 or more of 18 in 4.8 %, 12 of 17 in 7.2 %."""
    champion = ring.champion(answers(ring.labels, [*range(20), *range(100, 100 + only_new)]))
    verdict = ring.verdict(answers(ring.labels, [*range(20), *range(200, 200 + only_old)]), champion, LOOSE)
    comparison = verdict.comparison
    assert comparison
    assert (comparison.both, comparison.only_new, comparison.only_old, comparison.neither) == (
        *(N - 20 - only_new - only_old, only_new, only_old),
        20,
    )
    assert (verdict.decision, verdict.champion, verdict.rescored) == (decision, "old", False)


def test_a_better_model_that_loses_a_class_is_not_promoted(ring: Ring) -> None:
    champion = ring.champion(answers(ring.labels, [row for label in range(9) for row in rows_of(ring, label, 6)]))
    lost = rows_of(ring, 9, 8)
    verdict = ring.verdict(answers(ring.labels, lost), champion, LOOSE)
    assert verdict.decision == "keep"
    assert verdict.reasons == (
        "not met: class 9 not lost: found 86.67% of the time, by the champion 100.00% (p = 0.0039)",
    )
    looser = Demands(class_margin=0.2, calibration_margin=1)
    assert ring.verdict(answers(ring.labels, lost), champion, looser).decision == "promote"
    assert ring.verdict(answers(ring.labels, lost[:7]), champion, LOOSE).decision == "promote", (
        "seven may be chance among ten"
    )


def test_a_small_class_does_not_vanish_for_want_of_proof(ring: Ring) -> None:
    """Of sixty images one cannot be sure of less; of a class that is never found any more nobody has to be."""
    champion = ring.champion(
        answers(ring.labels, [*rows_of(ring, 9, 54), *(r for d in range(9) for r in rows_of(ring, d, 6))])
    )
    verdict = ring.verdict(answers(ring.labels, rows_of(ring, 9, 60)), champion, LOOSE)
    assert verdict.reasons == ("not met: class 9 not lost: found in none of its 60 images, by the champion in 6",)


def test_answers_that_are_not_in_the_order_of_the_images_are_refused(ring: Ring) -> None:
    """Compared row by row, they would be compared with those to other images."""
    evaluation = ring.evaluation(answers(ring.labels, range(30)))
    path = ring.store.open(evaluation.evaluation, "predictions.parquet")
    rows = pq.read_table(path)
    moved = ring.store.root / "moved.parquet"
    pq.write_table(rows.take([1, 0, *range(2, N)]), moved)
    assert len(written_answers(path).labels) == N
    with pytest.raises(DataError, match="the rows of these predictions are not in the order of the test images"):
        written_answers(moved)


def test_classes_of_too_few_images_are_not_called_kept() -> None:
    """Of ten classes, a loss in all of seven images is no proof; nine of four images lose all, unseen."""
    labels = np.repeat(np.arange(10), [100, *[4] * 8, 7]).astype(np.int32)
    old = Answers(labels, labels)
    new = Answers(labels, np.where((labels == 0) | (labels == 9), labels, 0).astype(np.int32))
    everywhere = np.ones(len(labels), bool)
    [finding] = classes_kept(new, old, everywhere, Labels(first=0, classes=10, names=tuple("0123456789")), DEMANDS)
    assert finding.holds
    assert finding.found == (
        "none is found 2 points more rarely than chance explains; of 9 of 10 there are too few images to tell"
    )


def test_a_recall_that_is_demanded_of_a_class_without_test_images_is_not_shown(ring: Ring) -> None:
    without = replace(ring, labels=ring.labels % 9)
    verdict = without.verdict(answers(without.labels, []), None, Demands(minimum_recall=0.5))
    assert verdict.decision == "keep"
    assert verdict.reasons == ("not met: minimum recall of class 9: no test image has it, so that nobody knows",)


def test_to_demand_more_of_the_whole_is_not_to_object_less_to_a_lost_class(ring: Ring) -> None:
    champion = ring.champion(answers(ring.labels, [row for label in range(9) for row in rows_of(ring, label, 6)]))
    strict = Demands(error_rate=0.001, calibration_margin=1)
    verdict = ring.verdict(answers(ring.labels, rows_of(ring, 9, 8)), champion, strict)
    assert [finding.what for finding in verdict.findings if not finding.holds] == ["class 9 not lost"]


def test_how_many_bins_a_report_shows_does_not_decide(ring: Ring) -> None:
    """In two bins a model that is too sure in one half and not sure enough in the other looks honest."""
    names = [str(digit) for digit in range(10)]
    p = answers(ring.labels, [], sure=0.7)
    p[300:] = answers(ring.labels, range(300, 540), sure=0.9)[300:]
    champion, evaluation = ring.champion(p), ring.evaluation(p)
    folder = ring.store.root / "runs" / "old"
    in_two, in_15 = (measure(ring.labels, p, names, bins=bins) for bins in (2, 15))
    assert (round(in_two.calibration.ece, 2), round(in_15.calibration.ece, 2)) == (0.2, 0.5)
    (folder / "metrics.json").write_text(in_two.model_dump_json(), encoding="utf-8")
    (folder / "manifest.json").unlink()
    champion = ring.manifested(folder)
    [found] = [each for each in ring.verdict(p, champion).findings if each.what == "calibration not worse"]
    assert found.found.startswith("expected calibration error 50.00%, the champion's 50.00%, 1.00% more allowed and ")
    path = ring.store.open(evaluation.evaluation, "predictions.parquet")
    assert metrics_of(path, ring.receipt.labels, np.ones(N, bool)).calibration.ece == in_15.calibration.ece


def calibration_of(draw: np.random.Generator, n: int, off: float = 0.0) -> Calibration:
    """Of a model of which n answers are right as often as it says, or less often by `off`."""
    sure = np.clip(1 - draw.exponential(0.05, n), 0.35, 1)
    labels, right = draw.integers(0, 10, n), draw.random(n) < sure - off
    p = np.repeat(((1 - sure) / 9)[:, None], 10, axis=1)
    p[np.arange(n), np.where(right, labels, (labels + 1) % 10)] = sure
    return measure(labels, p, [*"0123456789"]).calibration


def test_of_few_images_chance_is_not_taken_for_dishonesty() -> None:
    draw = np.random.default_rng(0)
    pairs = [(calibration_of(draw, 100), calibration_of(draw, 100)) for _ in range(100)]
    assert sum(now.ece > before.ece + DEMANDS.calibration_margin for now, before in pairs) > 15, "by the margin alone"
    assert sum(not calibrated(now, before, DEMANDS).holds for now, before in pairs) <= 5
    off = [(calibration_of(draw, 2000, off=0.05), calibration_of(draw, 2000)) for _ in range(20)]
    assert not any(calibrated(now, before, DEMANDS).holds for now, before in off)


def test_a_better_model_that_is_surer_than_it_should_be_is_not_promoted(ring: Ring) -> None:
    champion = ring.champion(answers(ring.labels, range(60), sure=0.9))
    too_sure = answers(ring.labels, range(30), sure=0.9999)
    verdict = ring.verdict(too_sure, champion)
    assert verdict.decision == "keep"
    assert verdict.reasons[0].startswith(
        "not met: calibration not worse: expected calibration error 4.99%, the champion's 0.00%"
    )
    assert ring.verdict(too_sure, champion, Demands(calibration_margin=0.05)).decision == "promote"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_shape": (6, 4)}, "the images are others than the champion's: 4 × 6 of uint8, there 6 × 4 of uint8"),
        (
            {"first": 1},
            f"the classes are others than the champion's: 10 from 0 ({DIGITS}), there 10 from 1 ({DIGITS})",
        ),
        (
            {"names": (*"0123456798",)},
            f"the classes are others than the champion's: 10 from 0 ({DIGITS}), there 10 from 0 ({DIGITS[:-4]}9, 8)",
        ),
    ],
)
def test_where_shape_or_classes_changed_a_person_decides(ring: Ring, changes: dict[str, Any], reason: str) -> None:
    if "image_shape" not in changes:
        changes = {"labels": ring.receipt.labels.model_copy(update=changes)}
    verdict = ring.verdict(answers(ring.labels, []), ring.champion(answers(ring.labels, range(60)), **changes))
    assert (verdict.decision, verdict.comparison) == ("undecided", None)
    assert verdict.reasons == (f"not met: comparable with the champion: {reason}",)


def test_a_damaged_champion_is_compared_with_nobody(ring: Ring) -> None:
    champion = ring.champion(answers(ring.labels, range(60)))
    path = ring.store.root / "runs" / "old" / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    verdict = ring.verdict(answers(ring.labels, []), champion)
    assert verdict.decision == "undecided"
    assert "the champion's run old is not as it was published: predictions.parquet: " in verdict.reasons[0]


def test_a_champion_of_a_version_that_is_not_known_is_for_a_person_to_judge(ring: Ring) -> None:
    ring.champion(answers(ring.labels, range(60)))
    folder = ring.store.root / "runs" / "old"
    content = json.loads((folder / "configuration.json").read_bytes())
    (folder / "configuration.json").write_text(json.dumps({**content, "of tomorrow": 1}))
    (folder / "manifest.json").unlink()
    verdict = ring.verdict(answers(ring.labels, []), ring.manifested(folder))
    assert verdict.decision == "undecided"
    assert "the champion's run old is of a version that this one cannot read" in verdict.reasons[0]


def test_a_champion_that_answered_fewer_images_is_not_compared() -> None:
    few, many = (Answers(labels, labels) for labels in (np.arange(3, dtype=np.int32), np.arange(4, dtype=np.int32)))
    with pytest.raises(Exception, match="it answered 4 test images, the champion 3"):
        many.require_same_samples(few)


def test_moved_rows_stop_the_run_and_say_where(ring: Ring) -> None:
    """The same table, and yet other labels beside the answers: rows were moved."""
    swapped = replace(ring, labels=ring.labels.copy())
    a, b = 7, int(np.flatnonzero(ring.labels != ring.labels[7])[0])
    first = min(a, b)
    swapped.labels[[a, b]] = swapped.labels[[b, a]]
    champion = swapped.champion(answers(swapped.labels, range(60)))
    with pytest.raises(DataError, match=f"2 of 600 test images have another label .* the first is image {first}:"):
        ring.verdict(answers(ring.labels, []), champion)


def test_a_model_is_not_compared_with_itself(ring: Ring) -> None:
    champion = ring.champion(answers(ring.labels, range(60)))
    contest = ring.contest(answers(ring.labels, []), champion, weights=champion.weights)
    verdict = verdict_on(ring.store, contest, DEMANDS)
    assert (verdict.decision, verdict.comparison) == ("keep", None)
    assert verdict.reasons == ("not met: another model than the champion: its weights are the champion's own",)


def test_where_classes_have_other_names_the_champions_own_weights_are_for_a_person_to_judge(ring: Ring) -> None:
    labels = ring.receipt.labels.model_copy(update={"names": (*"0123456798",)})
    champion, p = ring.champion(answers(ring.labels, range(60)), labels=labels), answers(ring.labels, [])
    verdict = verdict_on(ring.store, ring.contest(p, champion, weights=champion.weights), DEMANDS)
    assert verdict.decision == "undecided"
    assert verdict.reasons[0].startswith(
        "not met: comparable with the champion: the classes are others than the champion's"
    )


def test_what_a_verdict_depends_on(ring: Ring) -> None:
    champion, p = ring.champion(answers(ring.labels, range(60))), answers(ring.labels, [])
    contest = ring.contest(p, champion)

    def digest(contest: Contest = contest, demands: Demands = DEMANDS) -> str:
        return key_of(ring.store.root, contest, demands).digest

    assert digest(demands=Demands(demanded=True)) == digest(), "what follows from a verdict is no part of it"
    others = {
        digest(demands=Demands(error_rate=0.01)),
        digest(replace(contest, champion=None)),
        digest(ring.contest(answers(ring.labels, [1]), champion)),
        digest(ring.contest(p, champion, weights="c" * 64)),
    }
    assert len(others | {digest()}) == 5
    before = ring.having_learned(ring.champion(p, name="before"), slice(0, 5))
    warm = digest(ring.contest(p, champion, start=before))
    ring.having_learned(before, slice(0, 6))
    assert len({digest(), warm, digest(ring.contest(p, champion, start=before))}) == 3
    other_weights = ring.having_learned(before, slice(0, 5), weights="e" * 64)
    assert digest(ring.contest(p, champion, start=other_weights)) != warm
    renamed = contest.sequences.model_copy(
        update={"receipt": contest.sequences.receipt.model_copy(update={"digest": "d" * 64})}
    )
    assert digest(replace(contest, sequences=renamed)) != digest(), "equal bytes under another name are judged anew"
    itself = ring.contest(p, champion, weights=champion.weights)
    assert digest(itself) != digest(replace(itself, champion=None)), "where nobody is champion, it may become that"
    named = ring.receipt.labels.model_copy(update={"names": (*"0123456798",)})
    renamed_champion = ring.champion(p, name="renamed", labels=named)
    of_other_classes = digest(ring.contest(p, renamed_champion, weights=renamed_champion.weights))
    assert of_other_classes != digest(itself), "unless it meant other classes"
    before, path = digest(), ring.store.root / "runs" / "old" / "predictions.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert digest() != before, "what was said about a damaged champion is not said of one that was put back"
    path.write_bytes(content)
    assert digest() == before


@pytest.mark.slow
def test_a_champion_of_other_test_images_answers_these_first(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own model and its own reshape, as Keras itself answers, and as few images at a time as memory asks for."""
    import keras

    from schemas.files import MODEL_FILE

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((4, 6)), keras.layers.LSTM(8), keras.layers.Dense(10, "softmax")])
    tables = tuple(
        table.model_copy(update={"digest": "0" * 64}) if table.split == "test" else table
        for table in ring.receipt.tables
    )
    champion = ring.champion(answers(ring.labels, []), tables=tables)
    folder = ring.store.root / "runs" / "old"
    model.save(folder / MODEL_FILE)
    (folder / "manifest.json").unlink()
    champion = ring.manifested(folder)
    asked: list[int] = []

    def noted(store: Store, table: Table, reshape: Reshape, batch: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        asked.append(batch)
        return sequences_of(store, table, reshape, batch)

    monkeypatch.setattr("tasks.compare.answers.sequences_of", noted)
    monkeypatch.setattr("tasks.arrays.BATCH_BYTES", 250 * 4 * 6 * 4)
    verdict = ring.verdict(answers(ring.labels, range(30)), champion)
    assert asked == [250]
    x = np.load(ring.store.open(ring.sequences.x, "x.npy"), allow_pickle=False).reshape(N, 4, 6).astype(np.float32)
    right = int((model.predict(x, verbose=0).argmax(1) == ring.labels).sum())
    comparison = verdict.comparison
    assert comparison
    assert (verdict.decision, verdict.rescored) == ("promote", True)
    assert "on record" not in str(verdict.reasons), "it kept no list, and its training table is still there"
    assert comparison.both + comparison.only_old == right
    assert comparison.both + comparison.only_new == N - 30
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    model.save(folder / MODEL_FILE)
    (folder / "manifest.json").unlink()
    verdict = ring.verdict(answers(ring.labels, range(30)), ring.manifested(folder))
    assert verdict.reasons[0].endswith("the champion answers some of the test images by no number")


def test_a_champion_that_can_answer_nobody_any_more_is_for_a_person_to_judge(ring: Ring) -> None:
    """Though it answered these very test images when it was published."""
    ring.champion(answers(ring.labels, []))
    folder = ring.store.root / "runs" / "old"
    images = np.arange(3 * 4 * 6, dtype=np.uint8).reshape(3, 4, 6)
    (folder / "trial").mkdir()
    for sequences, decision in ((images, "keep"), (images[:, ::-1], "undecided")):
        np.save(folder / "trial" / "images.npy", images, allow_pickle=False)
        np.save(folder / "trial" / "sequences.npy", sequences, allow_pickle=False)
        (folder / "manifest.json").unlink()
        verdict = ring.verdict(answers(ring.labels, range(30)), ring.manifested(folder))
        assert verdict.decision == decision
    assert "the champion cannot be asked: it learned sequences that this version does not make" in verdict.reasons[0]


def test_the_table_of_two_models_against_loops() -> None:
    draw = np.random.default_rng(0)
    labels, new, old = (draw.integers(0, 3, 500, np.int32) for _ in range(3))
    found = paired(Answers(labels, new), Answers(labels, old))
    outcomes = [(bool(n == y), bool(o == y)) for y, n, o in zip(labels, new, old, strict=True)]
    counts = [outcomes.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))]
    assert [found.both, found.only_new, found.only_old, found.neither] == counts
    assert found.difference == pytest.approx(np.mean(new == labels) - np.mean(old == labels))
