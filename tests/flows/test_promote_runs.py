"""What promote makes of a verdict, with real published runs: who gets the place, who does not, and what is said."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows import champion
from flows.champion import UNTRIED, answering_run, before_champion, promote_by_hand, roll_back
from flows.unchanged import NothingChangedError, require_change
from flows.verdict_card import said, verdict_card
from schemas.catalog import load_catalog
from schemas.champion import Demands, Entry, Finding, Judged, Verdict
from schemas.configuration import RunConfiguration
from schemas.errors import ConfigurationError, PromotionRefusedError, StorageError
from schemas.handles import PublishedRun
from schemas.receipt import Receipt
from tasks.champions import Champions
from tasks.idx import write_idx
from tasks.predict import write_answers
from tasks.promote import promote
from tasks.published import manifest_digest, write_manifest
from tasks.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.champion import Decision
    from tests.flows.conftest import SmokeRun

pytestmark = pytest.mark.slow
BETTER = Finding(what="better than the champion", holds=True, found="by far")
WORSE = Finding(what="better than the champion", holds=False, found="by nothing")


class Place:
    """An artifacts root with copies of one published run in it."""

    def __init__(self, root: Path, original: Path) -> None:
        self.root, self.original, self.store = root, original, Store(root)
        self.champions = Champions(root, "glyphs")

    def run(self, name: str, **facts: Any) -> PublishedRun:  # noqa: ANN401 - what a manifest holds
        """A published run of this name, whole, with other facts in its manifest."""
        folder = self.root / "runs" / name
        shutil.copytree(self.original, folder)
        return self.sealed(name, **facts)

    def sealed(self, name: str, **facts: Any) -> PublishedRun:  # noqa: ANN401
        """The run with a manifest of its files as they are now."""
        folder = self.root / "runs" / name
        before = json.loads((folder / "manifest.json").read_bytes())
        (folder / "manifest.json").unlink()
        before.pop("files")
        write_manifest(folder, before | {"run": name} | facts)
        return PublishedRun(
            run=name,
            place=f"runs/{name}",
            report=f"runs/{name}/report.html",
            manifest=manifest_digest(folder),
            accuracy=0.9876,
            interval=(0.98, 0.99),
        )

    def damage(self, name: str) -> None:
        """Cut the last byte off a run's model."""
        model = self.root / "runs" / name / "model.keras"
        model.write_bytes(model.read_bytes()[:-1])

    def promoted(
        self, run: PublishedRun, decision: Decision, champion: str | None, *findings: Finding
    ) -> tuple[str, str | None, str]:
        """The event, the champion and the reasons after a run was looked at."""
        verdict = Verdict(decision=decision, champion=champion, findings=findings, demands=Demands())
        content = verdict.model_dump_json()
        with self.store.staging() as folder:
            (folder / "verdict.json").write_text(content)
            digest = hashlib.sha256(content.encode()).hexdigest()
            handle = self.store.commit(folder, kind="verdict", digest=digest, rows=0, shape=(0,), dtype="verdict")
        judged = Judged(verdict=handle, decision=decision, champion=champion)
        entry = promote.fn(self.root, "glyphs", run, judged).entry
        return entry.decision, entry.champion, "; ".join(entry.reasons)

    @property
    def newest(self) -> Entry:
        entry = self.champions.newest()
        assert entry
        return entry


@pytest.fixture
def place(smoke_run: SmokeRun, tmp_path: Path) -> Place:
    """The root, with `first` as its first champion."""
    place = Place(tmp_path / "artifacts", smoke_run.folder)
    assert place.promoted(place.run("first"), "first champion", None, BETTER)[:2] == ("first champion", "first")
    return place


def test_a_better_model_takes_the_place_and_its_verdict_stands_in_the_history(place: Place) -> None:
    better = place.run("better", weights="b" * 64)
    found = place.promoted(better, "promote", "first", BETTER)
    assert found == ("promoted", "better", "better than the champion: by far")
    assert place.newest.verdict
    assert place.newest.verdict.findings == (BETTER,)
    assert "| ✓ | better than the champion | by far |" in verdict_card(place.newest, place.newest.verdict)
    assert place.promoted(better, "keep", "better", WORSE)[:2] == ("re-verified", "better")
    assert place.newest.verdict is None, "a champion is not judged again"


def test_a_worse_one_and_one_that_cannot_be_compared_do_not(place: Place) -> None:
    other = place.run("other", weights="b" * 64)
    assert place.promoted(other, "keep", "first", WORSE)[:2] == ("kept", "first")
    undecided = Finding(what="comparable with the champion", holds=False, found="other classes")
    assert place.promoted(other, "undecided", "first", undecided)[:2] == ("undecided", "first")
    assert said(place.newest) == "first stays champion of glyphs until a person decides"


def test_a_damaged_champion_is_not_told_that_all_is_well(place: Place) -> None:
    with pytest.raises(ConfigurationError, match="first is champion already"):
        promote_by_hand(place.root, "first", "again", as_json=False)
    (place.root / "runs" / "first" / "metrics.json").write_text("{}")
    with pytest.raises(PromotionRefusedError, match=r"first cannot be champion: metrics\.json"):
        promote_by_hand(place.root, "first", "again", as_json=False)


def test_where_there_is_no_champion_nobody_stays_one(smoke_run: SmokeRun, tmp_path: Path) -> None:
    place = Place(tmp_path / "artifacts", smoke_run.folder)
    assert place.promoted(place.run("bad"), "keep", None, WORSE) == (
        "kept",
        None,
        "not met: better than the champion: by nothing",
    )
    assert said(place.newest) == "glyphs still has no champion"


def test_a_verdict_on_a_champion_of_yesterday_promotes_nobody(place: Place) -> None:
    place.promoted(place.run("second", weights="b" * 64), "promote", "first", BETTER)
    late = place.promoted(place.run("late", weights="c" * 64), "promote", "first", BETTER)
    assert late == ("kept", "second", "second became champion meanwhile, and it was compared with first: run it again")


def test_what_a_person_took_away_no_verdict_gives_back(place: Place) -> None:
    second = place.run("second", weights="b" * 64)
    place.promoted(second, "promote", "first", BETTER)
    record = next(entry.record for entry in place.champions.history() if entry.champion == "first")
    taken = place.champions.following(
        place.newest, "rolled back", "second", ("it answers badly",), taking=record, by_hand=True
    )
    place.champions.enter(taken)
    again = place.promoted(second, "promote", "first", BETTER)
    assert again[:2] == ("kept", "first")
    assert again[2] == "a person took the place from it (entry 3: it answers badly), and only a person gives it back"


@pytest.mark.parametrize("harm", ["model", "signature", "ledger"])
def test_nothing_is_promoted_whose_files_receipt_or_counts_do_not_hold(place: Place, harm: str) -> None:
    run = place.run("harmed", weights="b" * 64)
    if harm == "model":
        place.damage("harmed")
    else:
        path = place.root / "runs" / "harmed" / "receipt.json"
        receipt = json.loads(path.read_bytes())
        if harm == "signature":
            receipt["signature"] = "0" * 64
        else:
            receipt["ledger"] = {**receipt["ledger"], "entries": receipt["ledger"]["entries"][:-1]}
        path.write_text(json.dumps(receipt))
        run = place.sealed("harmed")
    decision, champion, reasons = place.promoted(run, "promote", "first", BETTER)
    assert (decision, champion) == ("kept", "first")
    assert {"model": "model.keras: ", "signature": "signature", "ledger": ""}[harm] in reasons
    assert reasons != "better than the champion: by far"


def test_nothing_is_promoted_whose_files_contradict_each_other(place: Place) -> None:
    def refused(name: str) -> str:
        decision, champion, reasons = place.promoted(place.sealed(name, weights="b" * 64), "promote", "first", BETTER)
        assert (decision, champion) == ("kept", "first")
        return reasons

    place.run("counts")
    path = place.root / "runs" / "counts" / "ledger.json"
    ledger = json.loads(path.read_bytes())
    ledger["entries"][0]["count"] -= 1
    path.write_text(json.dumps(ledger))
    assert refused("counts") == "ledger.json states other counts than receipt.json"
    place.run("rows")
    path = place.root / "runs" / "rows" / "predictions.parquet"
    pq.write_table(pq.read_table(path).slice(10), path)
    assert refused("rows") == "predictions.parquet has 1,990 rows, where 2,000 were counted"
    path.write_bytes(b"no table")
    assert "Parquet magic bytes not found in footer" in refused("rows")
    renamed = place.run("renamed", run="first", weights="b" * 64)
    assert place.promoted(renamed, "promote", "first", BETTER)[2] == "manifest.json is that of the run first"


def test_the_same_weights_again_verify_the_champion(place: Place) -> None:
    found = place.promoted(place.run("again"), "keep", "first", WORSE)
    assert found == ("re-verified", "first", "its weights are those of the champion, first")


def test_the_same_weights_again_take_the_place_of_a_champion_that_is_damaged(place: Place) -> None:
    place.promoted(place.run("before", weights="b" * 64), "promote", "first", BETTER)
    place.promoted(place.run("first-again"), "promote", "before", BETTER)
    assert before_champion(place.champions) == "before"
    place.damage("first-again")
    itself = Finding(what="another model", holds=False, found="its own", of_itself=True)
    low = Finding(what="minimum accuracy", holds=False, found="too low")
    bad = place.promoted(place.run("bad"), "keep", "first-again", itself, low)
    assert bad == ("kept", "first-again", "not met: minimum accuracy: too low")
    decision, champion, reasons = place.promoted(place.run("again"), "keep", "first-again", itself)
    assert (decision, champion) == ("promoted", "again")
    assert before_champion(place.champions) == "before", "nobody wants the damaged one back"
    assert reasons.startswith(
        "its weights are those of the champion, first-again, which is no longer as it was published: model.keras: "
    )
    shutil.rmtree(place.root / "runs" / "again")
    assert place.promoted(place.run("third"), "keep", "again", itself)[:2] == ("promoted", "third")


def test_a_damaged_copy_takes_nobodys_place(place: Place) -> None:
    place.damage("first")
    copy = place.run("copy")
    place.damage("copy")
    assert place.promoted(copy, "keep", "first", WORSE)[:2] == ("kept", "first")


def test_the_same_weights_on_other_test_images_are_no_proof_that_nothing_changed(place: Place) -> None:
    place.run("other")
    path = place.root / "runs" / "other" / "receipt.json"
    receipt = json.loads(path.read_bytes())
    for table in receipt["tables"]:
        table["digest"] = "0" * 64 if table["split"] == "test" else table["digest"]
    path.write_text(json.dumps(receipt))
    low = Finding(what="minimum accuracy", holds=False, found="98.76%, at least 99.00% demanded")
    found = place.promoted(place.sealed("other"), "keep", "first", low)
    assert found == (
        "kept",
        "first",
        (
            "its weights are those of the champion, first; of test images that are others it answers 98.76% right; "
            "not met: minimum accuracy: 98.76%, at least 99.00% demanded"
        ),
    )


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(place: Place) -> None:
    runs = [place.run(name, weights=name[0] * 64) for name in ("a-run", "b-run")]
    found: list[tuple[str, str | None, str]] = []
    threads = [
        threading.Thread(target=lambda run=run: found.append(place.promoted(run, "promote", "first", BETTER)))
        for run in runs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [champion for decision, champion, _ in found if decision == "promoted"]
    [told] = [reasons for decision, _, reasons in found if decision == "kept"]
    assert told == f"{winner} became champion meanwhile, and it was compared with first: run it again"
    assert [entry.number for entry in place.champions.history()] == [1, 2, 3]
    assert place.newest.champion == winner


def test_a_manifest_that_somebody_wrote_anew_is_not_the_one_that_was_published(place: Place) -> None:
    run = place.run("other", weights="b" * 64)
    place.store.remember("publish", "k", {"step": "publish", "components": {}}, run)
    place.sealed("other", accuracy=1.0)
    with pytest.raises(PromotionRefusedError, match=r"other cannot be champion: manifest\.json is another one"):
        promote_by_hand(place.root, "other", "to see", as_json=False)
    assert place.newest.champion == "first"


def test_by_hand_a_model_that_answers_otherwise_today_gets_no_place(place: Place) -> None:
    """Its files are whole, as after an upgrade of the libraries; the written answers stand for what it said then."""
    folder = place.root / "runs" / place.run("other", weights="b" * 64).run
    for asked in (folder / "trial").iterdir():
        np.save(asked, np.load(asked, allow_pickle=False)[::-1], allow_pickle=False)
    place.store.remember("publish", "k", {"step": "publish", "components": {}}, place.sealed("other"))
    with pytest.raises(PromotionRefusedError, match="other cannot be champion: the model does not answer") as refusal:
        promote_by_hand(place.root, "other", "to see", as_json=False)
    assert "saved_model answers up to" in str(refusal.value)
    assert place.newest.champion == "first"

    place.promoted(place.run("second", weights="c" * 64), "promote", "first", BETTER)
    roll_back(place.root, "glyphs", "", as_json=False)
    assert place.newest.champion == "first", "which answers as it did"


def test_a_run_that_has_not_kept_what_it_was_asked(place: Place) -> None:
    place.run("other", weights="b" * 64)
    shutil.rmtree(place.root / "runs" / "other" / "trial")
    run = place.sealed("other")
    with pytest.raises(PromotionRefusedError, match="it was not published here, and has not kept what its model was"):
        promote_by_hand(place.root, "other", "a colleague's", as_json=False)
    place.store.remember("publish", "k", {"step": "publish", "components": {}}, run)
    promote_by_hand(place.root, "other", "of an earlier version", as_json=False)
    assert place.newest.reasons == ("of an earlier version", UNTRIED)


def test_a_model_that_would_read_otherwise_today_gets_no_place_and_answers_nothing(
    place: Place, tmp_path: Path
) -> None:
    """As where another version made its steps of columns that this one makes of rows."""
    folder = place.root / "runs" / place.run("other", weights="b" * 64).run
    read = folder / "trial" / "sequences.npy"
    np.save(read, np.load(read, allow_pickle=False)[..., ::-1], allow_pickle=False)
    place.sealed("other")
    with pytest.raises(PromotionRefusedError, match="other cannot be champion: it learned sequences that this version"):
        promote_by_hand(place.root, "other", "to see", as_json=False)
    write_idx(tmp_path / "images", np.zeros((3, 28, 28), np.uint8))
    with pytest.raises(StorageError, match="the model of other cannot be asked: it learned sequences") as refusal:
        write_answers(folder, tmp_path / "images", tmp_path / "answers.parquet")
    assert refusal.value.remedy.startswith("Train it again")
    assert not (tmp_path / "answers.parquet").exists()


def nothing_changed(
    place: Place,
    *,
    demanded: bool = False,
    asked: RunConfiguration | None = None,
    **stated: Any,  # noqa: ANN401
) -> str | None:
    """The run that a skipping run of the same files and settings finds; None where it goes on."""
    receipt = Receipt.model_validate_json((place.original / "receipt.json").read_bytes())
    files: Any = [
        SimpleNamespace(split=file.split, role=file.role, idx=SimpleNamespace(digest=file.payload_sha256))
        for file in receipt.files
    ]
    configuration = asked or RunConfiguration.model_validate_json((place.original / "configuration.json").read_bytes())
    demands = configuration.promotion.model_copy(update={"demanded": demanded})
    try:
        dataset = load_catalog().datasets["glyphs"].model_copy(update=stated)
        require_change(place.root, configuration.model_copy(update={"promotion": demands}), dataset, files)
    except NothingChangedError as nothing:
        return nothing.run
    return None


def test_the_same_bytes_of_which_other_things_are_stated_are_no_reason_to_skip(place: Place) -> None:
    assert nothing_changed(place) == "first"
    assert nothing_changed(place, title="Signs", homepage="", licence="") == "first", "words"
    assert nothing_changed(place, class_names=(*"abcdefghij",)) is None
    assert nothing_changed(place, first_label=1) is None
    earlier = place.run("second", stated=None, created="2999-01-01T00:00:00+00:00")
    place.promoted(earlier, "keep", "first", WORSE)
    assert nothing_changed(place, first_label=1) == "second", "runs of earlier versions did not say"


def test_a_run_is_skipped_only_where_the_one_that_stands_was_judged(place: Place) -> None:
    assert nothing_changed(place) == "first"
    new = place.run("second", weights="b" * 64, created="2999-01-01T00:00:00+00:00")
    assert nothing_changed(place) is None, "it was published, and the run ended before it was judged"
    place.promoted(place.run("winner", weights="c" * 64), "promote", "first", BETTER)
    assert place.promoted(new, "promote", "first", BETTER)[0] == "kept"
    assert nothing_changed(place) is None, "another became champion meanwhile, and it was told to run again"
    place.promoted(new, "keep", "winner", WORSE)
    assert nothing_changed(place) == "second"
    assert nothing_changed(place, demanded=True) is None, "a refused run does not become a skipped one"
    with (place.root / "runs" / "winner" / "model.keras").open("ab") as model:
        model.write(b"x")
    assert nothing_changed(place) is None, "the champion is damaged: that is not passed over"


@pytest.mark.parametrize("given", ["by the run that stands", "today", "by neither"])
def test_what_was_given_is_what_follows_from_the_data(place: Place, given: str) -> None:
    """Steps and epochs that nobody gave are those that the images make."""
    before = RunConfiguration.model_validate_json((place.original / "configuration.json").read_bytes())
    receipt = Receipt.model_validate_json((place.original / "receipt.json").read_bytes())
    open_ones = {
        "reshape": before.reshape.model_copy(update={"timesteps": 0}),
        "training": before.training.model_copy(update={"epochs": 0}),
    }
    free = before.model_copy(update=open_ones)
    numbers = free.resolved(receipt.image_shape, receipt.ledger.count("train", "fitted") or 0)
    assert numbers.reshape != before.reshape, "smoke gives its own"
    place.run("second")
    written = numbers if given == "by the run that stands" else free
    (place.root / "runs" / "second" / "configuration.json").write_text(written.model_dump_json())
    place.promoted(place.sealed("second", created="2999-01-01T00:00:00+00:00"), "keep", "first", WORSE)
    assert nothing_changed(place, asked=numbers if given == "today" else free) == "second"
    assert nothing_changed(place, asked=before.model_copy(update={"reshape": open_ones["reshape"]})) is None


@pytest.mark.parametrize("file", ["receipt.json", "configuration.json", "manifest.json", "model.keras"])
def test_where_the_run_that_stands_is_damaged_nothing_is_skipped(place: Place, file: str) -> None:
    place.promoted(place.run("before", created="2001-01-01T00:00:00+00:00"), "keep", "first", WORSE)
    assert nothing_changed(place) == "first"
    path = place.root / "runs" / "first" / file
    path.write_bytes(path.read_bytes()[:-9])
    assert nothing_changed(place) is None


def test_a_champion_that_was_replaced_is_no_champion(place: Place) -> None:
    assert answering_run(place.root, "champion", "glyphs") == "first"
    place.sealed("first", weights="b" * 64)
    assert nothing_changed(place) is None
    with pytest.raises(StorageError, match="the champion first is no longer what it was when it took the place"):
        answering_run(place.root, "champion", "glyphs")


def test_what_a_person_decided_is_about_the_champion_that_was_seen(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the model is tried, which takes seconds, a run becomes champion."""
    place.promoted(place.run("second", weights="b" * 64), "promote", "first", BETTER)
    third, fourth = (place.run(name, weights=name[0] * 64) for name in ("c-run", "d-run"))

    def meanwhile(run: PublishedRun, champion_now: str) -> None:
        monkeypatch.setattr(
            champion, "_require_sound", lambda *_: place.promoted(run, "promote", champion_now, BETTER)[:0]
        )

    meanwhile(third, "second")
    with pytest.raises(PromotionRefusedError, match=r"c-run became champion meanwhile. Expected: second, who was"):
        roll_back(place.root, "glyphs", "second answers badly", as_json=False)
    assert place.newest.champion == "c-run", "which nobody wanted to take back"
    meanwhile(fourth, "c-run")
    with pytest.raises(PromotionRefusedError, match=r"d-run became champion meanwhile. Expected: c-run, who was"):
        promote_by_hand(place.root, "first", "to see", as_json=False)
    assert place.newest.champion == "d-run"


def test_where_nothing_was_ever_decided_a_rollback_says_how_something_comes_to_be(tmp_path: Path) -> None:
    for dataset in (None, "mnist"):
        with pytest.raises(ConfigurationError) as caught:
            roll_back(tmp_path, dataset, "", as_json=False)
        assert (
            caught.value.remedy
            == f"There are no runs in {tmp_path}: stepwise run makes one, and the first becomes champion"
        )
