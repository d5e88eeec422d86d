"""Upkeep: which runs stay, and that nothing is removed while a run goes on."""

from __future__ import annotations

import datetime
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from flow_support import environment_of
from manifests import manifest_in, manifest_of

from flows import clean as cleaning
from flows.attempts import Attempt, Attempts
from flows.clean import Keeping, clean
from flows.command import main
from schemas.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from schemas.manifest import Manifest

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)


def known(*runs: tuple[str, str, float]) -> list[tuple[Path, Manifest]]:
    """Published runs: name, preset, age in days; the newest first."""
    return [
        (Path(name), manifest_of(name, preset=preset, created=NOW - datetime.timedelta(days=days)))
        for name, preset, days in runs
    ]


RUNS = known(("a", "rows", 1), ("b", "smoke", 2), ("c", "rows", 8), ("d", "rows", 9), ("e", "smoke", 40))


@pytest.mark.parametrize(
    ("keeping", "kept"),
    [
        (Keeping(runs=1, days=None), "ab"),
        (Keeping(runs=2, days=None), "abce"),
        (Keeping(runs=None, days=8.5), "abc"),
        (Keeping(runs=None, days=0.1), "ab"),
        (Keeping(runs=2, days=100), "abcde"),
    ],
)
def test_either_rule_keeps_and_the_newest_of_each_kind_stays(keeping: Keeping, kept: str) -> None:
    assert keeping.kept(RUNS, NOW) == set(kept)


def test_something_has_to_say_what_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing says what is kept"):
        clean(tmp_path, Keeping(None, None), really=True, as_json=False)


def test_without_options_the_file_says_what_is_kept_and_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", environment_of(tmp_path))
    for name, (_, manifest) in zip("abc", RUNS, strict=False):
        folder = tmp_path / "out" / "runs" / name
        folder.mkdir(parents=True)
        manifest_in(folder, created=manifest.created)
    (tmp_path / "stepwise.toml").write_text("artifacts = 'out'\nretention = { keep_runs = 2 }\n")

    def would_go(*options: str) -> list[str]:
        monkeypatch.setattr(
            sys, "argv", ["stepwise", "clean", "--json", "--file", f"{tmp_path}/stepwise.toml", *options]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        gone: list[str] = json.loads(capsys.readouterr().out)["runs"]
        return gone

    assert would_go() == ["c"]
    assert would_go("--keep-runs", "1") == ["b", "c"]
    assert would_go("--artifacts", str(tmp_path / "none")) == []


def test_a_run_is_as_old_as_its_end_and_not_as_its_first_try(tmp_path: Path) -> None:
    """Mended on the fifth day, it would else go in the next night."""
    first, late = (tmp_path / name for name in ("first", "late"))
    manifests = [(late, manifest_of("late", created=NOW - datetime.timedelta(days=6)))]
    manifests.insert(0, (first, manifest_of("first", created=NOW - datetime.timedelta(days=1))))
    late.mkdir()
    manifest_in(late, created=NOW - datetime.timedelta(days=6))
    path = late / "manifest.json"
    for days, kept in ((1, {"first", "late"}), (6, {"first"})):
        when = (NOW - datetime.timedelta(days=days)).timestamp()
        os.utime(path, (when, when))
        assert Keeping(runs=None, days=3).kept(manifests, NOW) == kept


def test_the_newest_are_those_that_were_published_last() -> None:
    """Tried again after two others: it is the newest, and does not go in the same night."""
    runs = known(("c", "rows", 1), ("b", "rows", 2), ("a", "rows", 9))
    assert Keeping(runs=2, days=None).kept(runs, NOW, {"a": NOW}) == {"a", "c"}
    assert Keeping(runs=2, days=None).kept(runs, NOW) == {"b", "c"}


def test_when_a_run_was_published_is_known_by_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "_forget_flow_runs", set)
    for name, days in (("new", 1), ("again", 9)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        manifest_in(folder, created=datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days))
    attempt = attempt_of(1, "published", 9, published="again", ended=datetime.datetime.now(datetime.UTC))
    Attempts(tmp_path).keep(attempt.model_copy(update={"run": "again"}))
    clean(tmp_path, Keeping(1, None), really=True, as_json=True)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"again"}


def attempt_of(number: int, outcome: str, days: float, **more: object) -> Attempt:
    created = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    values = {"dataset": "d", "preset": "rows", "parameters": {}, **more}
    return Attempt(run=f"run-{number}", flow_run=str(number), created=created, outcome=outcome, **values)  # type: ignore[arg-type]


def test_what_ended_badly_stays_until_somebody_has_answered_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr(cleaning, "_forget_flow_runs", lambda asked: forgotten.extend(asked) or set(asked))
    attempts = Attempts(tmp_path)
    for attempt in (
        attempt_of(1, "failed", 9),
        attempt_of(2, "skipped", 8),
        attempt_of(3, "failed", 3),
        attempt_of(4, "failed", 2, preset="other"),
        attempt_of(5, "stopped", 0.1),
    ):
        attempts.keep(attempt)
    clean(tmp_path, Keeping(1, None), really=True, as_json=True)
    assert sorted(forgotten) == ["1", "2"]
    assert [attempt.run for attempt in attempts.all()] == ["run-5", "run-4", "run-3"]


def test_runs_that_something_begins_with_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "_forget_flow_runs", set)
    days = {"parent": 30, "asked": 20, "old": 15, "warm": 1}
    for name, age in days.items():
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        created = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age)
        manifest_in(folder, created=created, started_from="parent" if name == "warm" else None)
    waiting = attempt_of(1, "died", 0.5, parameters={"policy": {"start_from": "ask"}})
    Attempts(tmp_path).keep(waiting)
    clean(tmp_path, Keeping(1, None), really=True, as_json=True)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"parent", "asked", "warm"}


def test_a_run_that_nobody_can_judge_stays_with_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "_forget_flow_runs", set)
    folder = tmp_path / "runs" / "run-1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    Attempts(tmp_path).keep(attempt_of(1, "published", 9, published="run-1"))
    clean(tmp_path, Keeping(1, None), really=True, as_json=True)
    assert folder.is_dir()
    assert [attempt.run for attempt in Attempts(tmp_path).all()] == ["run-1"]


def test_a_run_that_somebody_put_back_goes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removal of it was killed before."""
    monkeypatch.setattr(cleaning, "_forget_flow_runs", set)
    for name, days in (("new", 1), ("old", 2)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        manifest_in(folder, created=datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days))
    half = tmp_path / "runs" / ".old.removed"
    half.mkdir()
    (half / "file").write_text("1234")
    clean(tmp_path, Keeping(1, None), really=True, as_json=True)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"new"}


def test_nothing_is_removed_while_a_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attempt = Attempt(run="a-run", flow_run="x", created=NOW, dataset="d", preset="rows", parameters={})
    with Attempts(tmp_path).held(attempt), pytest.raises(StorageError, match=r"a run is going on \(a-run\)"):
        clean(tmp_path, Keeping(1, None), really=False, as_json=False)
    clean(tmp_path, Keeping(1, None), really=False, as_json=False)
    assert "Nothing was removed" in capsys.readouterr().out
    assert [each.outcome for each in Attempts(tmp_path).all()] == ["died"], "its owner is gone"
