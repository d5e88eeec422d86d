"""Runs that are damaged: what is told of them, and that they cost no other run."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

import pytest
from manifests import manifest_in

from flows.attempts import Attempt, Attempts
from flows.clean import Keeping, cleaned
from flows.runs import find_run, manifests, show_one
from schemas.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from pathlib import Path


def run_in(artifacts: Path, name: str, **stated: Any) -> Path:  # noqa: ANN401 - what a manifest holds
    folder = artifacts / "runs" / name
    folder.mkdir(parents=True)
    manifest_in(folder, **stated)
    return folder


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"format": 1, "run": "b"}', ""])
def test_a_manifest_that_cannot_be_read_costs_that_run_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    run_in(tmp_path, "a"), run_in(tmp_path, "c", created="2026-11-03T00:00:00Z")
    damaged = run_in(tmp_path, "b") / "manifest.json"
    damaged.write_text(content)
    assert [folder.name for folder, _ in manifests(tmp_path)] == ["c", "a"]
    assert caplog.messages == [f"{damaged.parent} is passed over: its manifest.json cannot be read"]
    assert find_run(tmp_path, "latest")[0].name == "c"
    with pytest.raises(StorageError, match="the manifest of this run cannot be read") as caught:
        find_run(tmp_path, "b")
    assert (caught.value.file, caught.value.exit_code) == (str(damaged), 5)
    for unknown in ("d", "a/", f"{tmp_path}/runs/a"):
        with pytest.raises(ConfigurationError, match=f"no published run by the name '{unknown}'"):
            find_run(tmp_path, unknown)


def test_what_cannot_be_read_is_not_removed_nor_what_it_needs(tmp_path: Path) -> None:
    for day, name in enumerate("abc", 1):
        run_in(tmp_path, name, created=f"2026-11-0{day}T00:00:00Z")
    attempts = Attempts(tmp_path)
    for name in "abc":
        now = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
        attempts.keep(
            Attempt(run=name, flow_run=name, created=now, dataset="d", preset="p", parameters={}, published=name)
        )
    keeping = Keeping(runs=1, days=None)
    assert cleaned(tmp_path, keeping, really=False).runs == ("b", "a")
    (tmp_path / "runs" / "b" / "manifest.json").write_text("{")
    cleaning = cleaned(tmp_path, keeping, really=False)
    assert (cleaning.runs, cleaning.attempts) == (("a",), 1)


@pytest.mark.parametrize("content", [None, "cut"])
def test_a_run_without_its_ledger_is_shown_as_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    folder = run_in(tmp_path, "a", files={"ledger.json": {"sha256": "0" * 64, "bytes": 9}})
    if content:
        (folder / "ledger.json").write_text(content)
    assert not show_one(tmp_path, "a", as_json=False)
    said = capsys.readouterr().out
    assert "files: damaged: ledger.json" in said
    assert "No sample was lost" not in said
    show_one(tmp_path, "a", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["damaged"], told["ledger"]) == (["ledger.json"], None)
